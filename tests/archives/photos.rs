//! Photos from files, stores and records.

use super::*;

#[derive(Debug)]
struct InMemory(Vec<Vec<u8>>);

impl PhotoStore for InMemory {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        self.0.get(index).cloned().ok_or_else(|| anyhow::anyhow!("no such row"))
    }

    fn describe(&self, index: usize) -> String {
        format!("row {index}")
    }
}

#[test]
fn a_photo_is_the_same_from_a_file_and_from_a_store() {
    let root = folder();
    let bytes = png(3);
    put(&root.path().join("a.png"), &bytes);
    let file = Photo::File(root.path().join("a.png"));
    let store: Arc<dyn PhotoStore> = Arc::new(InMemory(vec![png(1), bytes.clone()]));
    let encoded = Photo::Encoded { store: store.clone(), index: 1 };
    assert_eq!(file.decode().expect("image"), encoded.decode().expect("image"));
    assert_eq!(file.hash().expect("hash"), (sha256(&bytes), bytes.len() as u64));
    assert_eq!(encoded.hash().expect("hash"), file.hash().expect("hash"));
    assert_eq!((encoded.path(), encoded.describe()), (None, "row 1".to_owned()));
    assert_eq!(file.head(4).expect("head"), bytes[..4]);
    assert_eq!(encoded.head(4).expect("head"), bytes[..4]);
    assert_ne!(encoded, Photo::Encoded { store: store.clone(), index: 0 });
    assert!(message(Photo::Encoded { store, index: 2 }.decode()).contains("no such row"));
    assert!(message(Photo::File(root.path().join("b.png")).hash()).contains("cannot be read"));
}

#[test]
fn records_are_turned_from_planes_to_pixels_in_both_orders() {
    // 3 x 2 pixels: red is 10 * row + column, green 100 more, blue 200 more.
    let expected = RgbImage::from_fn(3, 2, |x, y| {
        let v = (10 * y + x) as u8;
        Rgb([v, v + 100, v + 200])
    });
    let by_rows = [0u8, 1, 2, 10, 11, 12];
    let by_columns = [0u8, 10, 1, 11, 2, 12];
    for (order, plane) in [(PixelOrder::ChannelRowColumn, by_rows), (PixelOrder::ChannelColumnRow, by_columns)] {
        let record: Vec<u8> = [0, 100, 200].iter().flat_map(|add| plane.map(|v| v + add)).collect();
        let bytes = [vec![0; 18], record.clone()].concat();
        let block = Arc::new(PixelBlock { name: "x.bin".into(), width: 3, height: 2, order, bytes });
        let photo = Photo::Pixels { block: block.clone(), index: 1 };
        assert_eq!(photo.decode().expect("image"), expected, "{order:?}");
        assert_eq!(photo.hash().expect("hash"), (sha256(&record), 18));
        let beyond = Photo::Pixels { block, index: 2 };
        assert!(message(beyond.decode()).contains("no record 2 in x.bin, only 2"));
    }
}

#[test]
fn a_record_of_the_size_asked_for_reaches_the_network_untouched() {
    let bytes: Vec<u8> = (0..3072u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let block = PixelBlock { name: "x".into(), width: 32, height: 32, order: PixelOrder::ChannelRowColumn, bytes };
    let image = Photo::Pixels { block: Arc::new(block), index: 0 }.decode().expect("image");
    for interpolation in
        [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos]
    {
        for (antialias, fraction) in [(false, None), (true, None), (true, Some(1.0)), (false, Some(1.0))] {
            let how = fraction.map_or(Fit::Squash, |fraction| Fit::Crop { fraction });
            let contract = Preprocessing { normalization: Normalization::Unit, interpolation, antialias, fit: how };
            let untouched = match fit(&image, 32, &contract).expect("fitted") {
                Pixels::U8(values) => values == *image.as_raw(),
                Pixels::F32(values) => values.iter().zip(image.as_raw()).all(|(a, b)| *a == f32::from(*b)),
            };
            assert!(untouched, "{contract:?}");
        }
    }
}
