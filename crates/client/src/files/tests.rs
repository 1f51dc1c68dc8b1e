//! What is found out about a file before it is sent.

use std::io::Cursor;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use poste_protocol::{Digest, limits};
use tempfile::TempDir;

use super::*;

fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn prepared(name: &str, bytes: &[u8]) -> Prepared {
    let (_folder, path) = written(name, bytes);
    prepare(&path, None).unwrap()
}

/// Left half red, right half blue.
fn picture(width: u32, height: u32) -> DynamicImage {
    let colour = |x| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, _| colour(x)))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The thumbnail's bytes, and what they show.
fn thumbnail(file: &Attachment) -> (Vec<u8>, RgbImage) {
    let text = file.thumbnail.as_ref().expect("a thumbnail");
    assert!(text.len() <= limits::THUMBNAIL_BYTES, "{}", text.len());
    let jpeg = STANDARD.decode(text).unwrap();
    let shown = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg).unwrap().to_rgb8();
    (jpeg, shown)
}

/// A JPEG with an orientation, a place and a camera in its metadata.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend(b"\x01\x0f\0\x02\0\0\0\x0c\0\0\0\x26");
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend(b"\0\0\0\0SecretMaker\0");
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn a_file_is_read_part_by_part() {
    let bytes: Vec<u8> = (0..6 * 1024 * 1024_u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let found = prepared("notes.pdf", &bytes);
    let parts = [Digest::of(&bytes[..5 * 1024 * 1024]), Digest::of(&bytes[5 * 1024 * 1024..])];
    assert_eq!(found.source.parts, parts);
    assert_eq!((found.file.size, found.file.sha256), (bytes.len() as u64, Digest::of_parts(&parts)));
    assert_eq!((found.file.kind.as_str(), found.file.name.as_deref()), ("application/pdf", Some("notes.pdf")));
    assert_eq!((found.file.pixels, found.file.thumbnail), (None, None));
    assert!(found.source.modified.is_some() && Path::new(&found.source.path).is_absolute());
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let (folder, path) = written("empty", b"");
    let why = |path: &Path| match prepare(path, None) {
        Err(Error::File { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&path), "it is empty");
    assert_eq!(why(folder.path()), "not a file");
    assert!(!why(&folder.path().join("nothing")).is_empty());
}

#[test]
fn a_kind_is_as_given_or_guessed() {
    let (_folder, path) = written("x.MP4", b"film");
    assert_eq!(prepare(&path, None).unwrap().file.kind, "video/mp4");
    assert_eq!(prepare(&path, Some("x/y".into())).unwrap().file.kind, "x/y");
    assert_eq!(prepared("x", b"?").file.kind, UNKNOWN);
    let png = encoded(&picture(4, 4), ImageFormat::Png);
    assert_eq!(prepared("wrong.txt", &png).file.kind, "image/png", "by what it is, not by what it is called");
}

#[test]
fn pictures_have_a_small_picture() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let found = prepared("p", &encoded(&picture(1000, 500), format)).file;
        assert_eq!(found.pixels, Some((1000, 500)), "{format:?}");
        let (_, shown) = thumbnail(&found);
        assert_eq!(shown.dimensions(), (320, 160));
        assert!(shown.get_pixel(20, 80)[0] > 200 && shown.get_pixel(300, 80)[2] > 200);
    }
    let (_, shown) = thumbnail(&prepared("p", &encoded(&picture(20, 10), ImageFormat::Png)).file);
    assert_eq!(shown.dimensions(), (20, 10), "not larger than it is");
}

#[test]
fn a_picture_full_of_noise_still_fits() {
    let noise = |x: u32, y: u32| {
        let mix = (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(83_492_791);
        Rgb([mix.to_be_bytes()[0], mix.to_be_bytes()[1], mix.to_be_bytes()[2]])
    };
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(900, 900, noise));
    let (_, shown) = thumbnail(&prepared("p", &encoded(&picture, ImageFormat::Png)).file);
    assert!(shown.width() >= 48);
}

#[test]
fn a_picture_is_seen_upright_and_says_nothing_else() {
    let jpeg = encoded(&picture(400, 200), ImageFormat::Jpeg);
    let turned = with_exif(&jpeg, 6);
    assert!(turned.windows(11).any(|part| part == b"SecretMaker"));
    let found = prepared("p.jpg", &turned).file;
    assert_eq!(found.pixels, Some((200, 400)), "as it is to be seen");
    let (bytes, shown) = thumbnail(&found);
    assert_eq!(shown.dimensions(), (160, 320));
    // A quarter turn to the right: what was left is above.
    assert!(shown.get_pixel(80, 20)[0] > 200 && shown.get_pixel(80, 300)[2] > 200);
    assert!(!bytes.windows(4).any(|part| part == b"Exif" || part == b"Secr"));
}

#[test]
fn what_can_be_seen_through_is_on_white() {
    let clear = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(10, 10, image::Rgba([0, 0, 0, 0])));
    let (_, shown) = thumbnail(&prepared("p", &encoded(&clear, ImageFormat::Png)).file);
    assert!(shown.pixels().all(|pixel| pixel.0.iter().all(|value| *value > 250)));
}

/// A PNG that says that it is so large, and is not.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&picture(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    // Header and size are covered by a checksum of their own.
    let mut sum = u32::MAX;
    for byte in &png[12..29] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    png[29..33].copy_from_slice(&(!sum).to_be_bytes());
    png
}

#[test]
fn a_picture_that_is_too_large_is_not_decoded() {
    let found = prepared("p.png", &bomb(60_000, 60_000)).file;
    assert_eq!((found.pixels, found.thumbnail), (Some((60_000, 60_000)), None));
    let found = prepared("p.png", &bomb(u32::MAX / 2, u32::MAX / 2)).file;
    assert_eq!(found.thumbnail, None);
}

#[test]
fn a_long_file_is_not_looked_into() {
    let (_folder, path) = written("p.jpg", &encoded(&picture(100, 100), ImageFormat::Jpeg));
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(33 * 1024 * 1024).unwrap();
    let found = prepare(&path, None).unwrap().file;
    assert_eq!((found.kind.as_str(), found.pixels, found.thumbnail), ("image/jpeg", None, None));
}

#[test]
fn garbage_is_no_picture_and_is_sent_all_the_same() {
    let mut jpeg = encoded(&picture(100, 100), ImageFormat::Jpeg);
    jpeg.truncate(30);
    for bytes in [&b"\xff\xd8\xff garbage"[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", &jpeg] {
        let found = prepared("p.jpg", bytes).file;
        assert_eq!((found.size, found.thumbnail), (bytes.len() as u64, None));
    }
}
