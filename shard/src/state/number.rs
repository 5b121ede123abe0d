//! Values that are integers: decimal text, as JSON has it.

use bytes::Bytes;

/// The number that a value is; `None` if it is none, or beyond 64 bits.
pub(super) fn parse(value: &[u8]) -> Option<i64> {
    // Stricter than `i64::from_str`: a number has one spelling.
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    if leading_zero || !digits.iter().all(u8::is_ascii_digit) || value == b"-0" {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The value that a number is.
pub(super) fn format(number: i64) -> Bytes {
    number.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            ("1.0", None),
            (" 1", None),
        ] {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
            if let Some(number) = number {
                assert_eq!(format(number), text);
            }
        }
    }
}
