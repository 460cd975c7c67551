//! Sizes as `qemu-img` reads and shows them.

/// Bytes of a size: a number with a unit of 1024s, `1.5M`. Nothing where the real one would refuse it, or nearly so.
pub(super) fn read(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let unit = 1_u64 << shift;
    let part: f64 = if part.is_empty() { 0.0 } else { format!("0.{part}").parse().ok()? };
    let bytes = whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add((part * unit as f64) as u64)?;
    i64::try_from(bytes).ok().map(|_| bytes)
}

/// A size in three digits: `64 KiB`, `1.5 MiB`.
pub(super) fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    // The next unit begins at 1000 of the one before: four digits are never shown.
    let fits = |power: &usize| (bytes as f64) < 1000.0 * 1024_f64.powi(*power as i32);
    let power = (0..UNITS.len()).find(fits).unwrap_or(UNITS.len() - 1);
    let scaled = bytes as f64 / 1024_f64.powi(power as i32);
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    let number = format!("{scaled:.decimals$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {}B", UNITS[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_have_a_unit_and_a_fraction() {
        assert_eq!([read("512"), read("16M"), read("1.5k")], [Some(512), Some(16 << 20), Some(1536)]);
        assert_eq!([read("1x"), read(""), read("9999999999999999999")], [None; 3]);
    }

    #[test]
    fn a_size_is_shown_in_three_digits() {
        assert_eq!([0, 512, 1536, 1 << 20].map(show), ["0 B", "512 B", "1.5 KiB", "1 MiB"]);
    }
}
