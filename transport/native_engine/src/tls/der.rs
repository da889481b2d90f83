//! As much of X.509 as says which key a certificate has. Who it belongs to is judged elsewhere.

/// The contents of the element at the beginning, with its tag, and how many bytes it takes in all.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    let (length, header) = if first & 0x80 == 0 {
        (usize::from(first), 2)
    } else {
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) {
            return None;
        }
        let length = bytes.get(2..2 + count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        (length, 2 + count)
    };
    Some((tag, bytes.get(header..header.checked_add(length)?)?, header + length))
}

/// The `SubjectPublicKeyInfo` of a certificate of any version, DER, header included (RFC 5280 section 4.1).
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    const VERSION: u8 = 0xA0;
    let (_, outer, _) = element(certificate)?;
    let (_, mut rest, _) = element(outer)?;
    if rest.first() == Some(&VERSION) {
        rest = rest.get(element(rest)?.2..)?;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        rest = rest.get(element(rest)?.2..)?;
    }
    rest.get(..element(rest)?.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_has_no_key() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\x02", &[0x30; 64]]
        {
            assert_eq!(public_key(bytes), None);
        }
    }
}
