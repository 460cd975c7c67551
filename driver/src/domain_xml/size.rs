//! Sizes of memory, as a `<domain>` states them: a number with a unit.
//!
//! Source: libvirt's documentation of the domain XML format; `virScaleInteger` for the units.

use crate::xml::Element;

/// How many bytes an element states; none if it states no size that can be.
pub(crate) fn bytes(element: &Element) -> Option<u64> {
    let unit = match element.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    let number: u64 = element.text().trim().parse().ok()?;
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_in_kibibytes_unless_it_says_otherwise() {
        let size = |text: &str, unit: Option<&str>| {
            let element = Element::of_text("memory", text);
            bytes(&unit.map_or(element.clone(), |unit| element.with("unit", unit)))
        };
        assert_eq!(size("65536", None), Some(64 << 20));
        assert_eq!(size(" 64 ", Some("MiB")), Some(64 << 20));
        assert_eq!(size("1", Some("TB")), Some(1_000_000_000_000));
        assert_eq!(size("64", Some("pages")), None);
        assert_eq!(size("18446744073709551615", None), None);
    }
}
