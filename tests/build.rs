//! Builds the suite's tests anew when a scenario comes or goes: each has a test case of its own.

fn main() {
    println!("cargo:rerun-if-changed=../scenarios/suite");
}
