use super::{CborError, Full, Kind, Reader, Writer};

fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) -> ([u8; 64], usize) {
    let mut out = [0; 64];
    let mut writer = Writer::new(&mut out);
    write(&mut writer).unwrap();
    let length = writer.len();
    (out, length)
}

/// Examples of RFC 8949, appendix A.
#[test]
fn numbers_are_those_of_the_appendix_of_the_standard() {
    for (number, bytes) in [
        (0, &[0x00][..]),
        (1, &[0x01]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (100, &[0x18, 0x64]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
        (-1, &[0x20]),
        (-10, &[0x29]),
        (-100, &[0x38, 0x63]),
        (-1000, &[0x39, 0x03, 0xe7]),
        (i64::MAX, &[0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (i64::MIN, &[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let (out, length) = written(|writer| writer.int(number));
        assert_eq!(&out[..length], bytes, "{number}");
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.int(), Ok(number));
        assert_eq!(reader.end(), Ok(()));
    }
    let mut largest = Reader::new(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(largest.clone().uint(), Ok(u64::MAX));
    assert_eq!(largest.int(), Err(CborError::TooLarge { at: 0 }));
}

#[test]
fn what_is_written_is_read_again() {
    let (out, length) = written(|writer| {
        writer.tag(18)?;
        writer.array(4)?;
        writer.bytes(b"\x00\xff")?;
        writer.text("°C")?;
        writer.map(1)?;
        writer.uint(1)?;
        writer.null()?;
        writer.bool(true)
    });
    let mut reader = Reader::new(&out[..length]);
    assert_eq!(reader.next_kind(), Some(Kind::Tag));
    assert_eq!((reader.tag(), reader.array()), (Ok(18), Ok(4)));
    assert_eq!((reader.bytes(), reader.text()), (Ok(&b"\x00\xff"[..]), Ok("°C")));
    assert_eq!((reader.map(), reader.uint(), reader.null()), (Ok(1), Ok(1), Ok(())));
    assert_eq!((reader.bool(), reader.end(), reader.next_kind()), (Ok(true), Ok(()), None));
}

#[test]
fn a_number_that_takes_more_bytes_than_it_needs_is_refused() {
    for bytes in [
        &[0x18, 23][..],
        &[0x19, 0, 255],
        &[0x1a, 0, 0, 255, 255],
        &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
    ] {
        assert_eq!(Reader::new(bytes).uint(), Err(CborError::NotShortest { at: 0 }));
    }
    // A length is such a number, too.
    assert_eq!(Reader::new(&[0x58, 1, 7]).bytes(), Err(CborError::NotShortest { at: 0 }));
    assert_eq!(Reader::new(&[0x98, 1, 7]).array(), Err(CborError::NotShortest { at: 0 }));
}

#[test]
fn open_lengths_reserved_heads_and_wrong_kinds_are_refused() {
    for (bytes, open) in [([0x5f], true), ([0x7f], true), ([0x9f], true), ([0xbf], true)] {
        let mut reader = Reader::new(&bytes);
        let found = match bytes[0] >> 5 {
            2 => reader.bytes().map(drop),
            3 => reader.text().map(drop),
            4 => reader.array().map(drop),
            _ => reader.map().map(drop),
        };
        assert_eq!(found == Err(CborError::Indefinite { at: 0 }), open);
    }
    for reserved in [0x1c, 0x1d, 0x1e] {
        let wanted = Kind::Uint;
        let error = CborError::Unexpected { at: 0, wanted, found: Kind::Other };
        assert_eq!(Reader::new(&[reserved]).uint(), Err(error));
    }
    let error = CborError::Unexpected { at: 0, wanted: Kind::Bytes, found: Kind::Text };
    assert_eq!(Reader::new(&[0x61, b'a']).bytes(), Err(error));
    let error = CborError::Unexpected { at: 0, wanted: Kind::Bool, found: Kind::Null };
    assert_eq!(Reader::new(&[0xf6]).bool(), Err(error));
    assert_eq!(Reader::new(&[0xf9, 0, 0]).next_kind(), Some(Kind::Other), "no floats");
}

#[test]
fn what_is_cut_short_is_refused_wherever_the_cut_is() {
    let (out, length) = written(|writer| {
        writer.uint(1000)?;
        writer.bytes(&[7; 30])
    });
    for cut in 0..length {
        let mut reader = Reader::new(&out[..cut]);
        let all = reader.uint().and_then(|_| reader.bytes());
        assert!(matches!(all, Err(CborError::Short { .. })), "{cut}: {all:?}");
    }
}

#[test]
fn a_count_beyond_the_bytes_that_are_there_is_refused() {
    let short = Err(CborError::Short { at: 0 });
    assert_eq!(Reader::new(&[0x9a, 0xff, 0xff, 0xff, 0xff]).array(), short);
    assert_eq!(Reader::new(&[0xa2, 0, 0, 0]).map(), short);
    assert_eq!(Reader::new(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]).map(), short);
    assert_eq!(
        Reader::new(&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255]).bytes().map(<[u8]>::len),
        short
    );
}

#[test]
fn text_that_is_not_utf8_and_bytes_behind_the_end_are_refused() {
    assert_eq!(Reader::new(&[0x61, 0xff]).text(), Err(CborError::NotText { at: 0 }));
    let mut reader = Reader::new(&[0, 0]);
    assert_eq!(reader.uint(), Ok(0));
    assert_eq!(reader.end(), Err(CborError::Trailing { at: 1 }));
}

#[test]
fn a_full_buffer_is_said_to_be_full_and_nothing_panics() {
    for room in 0..12 {
        let mut out = [0; 12];
        let mut writer = Writer::new(&mut out[..room]);
        assert_eq!(writer.bytes(&[1; 12]), Err(Full), "{room}");
        // The head of the bytes is there already.
        assert_eq!(writer.uint(u64::MAX).is_ok(), room >= 10, "{room}");
    }
}

/// Every pair of bytes in front of zeros: the reader answers, and never panics.
#[test]
fn no_beginning_makes_the_reader_panic() {
    for first in 0..=255 {
        for second in 0..=255 {
            let bytes = [first, second, 0, 0, 0, 0, 0, 0, 0, 0];
            for length in 0..=bytes.len() {
                let bytes = &bytes[..length];
                let _ = Reader::new(bytes).int();
                let _ = Reader::new(bytes).bytes();
                let _ = Reader::new(bytes).text();
                let _ = Reader::new(bytes).array();
                let _ = Reader::new(bytes).map();
                let _ = Reader::new(bytes).tag();
                let _ = Reader::new(bytes).bool();
            }
        }
    }
}
