//! What the driver does with the images of a machine that is off.

use freezeframe_sim::Release;
use freezeframe_tests::qemu_img::story;

#[test]
fn the_driver_tells_of_each_image_what_was_done_or_why_not() {
    insta::assert_snapshot!(story::simulated(Release::V10_0).join("\n"));
}

#[test]
fn the_releases_differ_in_nothing_that_the_driver_sees() {
    for release in Release::ALL {
        assert_eq!(story::simulated(release), story::simulated(Release::V10_0), "{release}");
    }
}
