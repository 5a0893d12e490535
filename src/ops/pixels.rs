//! Network inputs of 8-bit pixels, made on the device that computes.
//!
//! A photo crosses to the device as the bytes that it consists of, a quarter of what its network inputs would take. There each byte is
//! looked up: of 8-bit pixels a channel has 256 possible inputs only, so a table of them holds any normalisation, to the last bit and on
//! every device, and costs no more than the arithmetic would.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

/// Values of a byte.
const BYTES: usize = 256;

/// The inputs of each channel's bytes, on a device.
pub struct PixelInputs {
    /// `[channels * 256]`
    table: Tensor,
    /// `[1, channels]`: where the channels begin in the table.
    offsets: Tensor,
    /// Which channel of a pixel becomes which of the inputs, unless they have the same order.
    order: Option<Tensor>,
}

impl PixelInputs {
    /// `table` holds 256 inputs for each of the network's channels; `order` says for each of them which channel of a pixel it is made of.
    ///
    /// # Errors
    /// If the two do not have the same channels, or the device has no room.
    pub fn new(table: &[f32], order: &[u32], device: &Device) -> Result<Self> {
        let channels = order.len();
        ensure!(
            table.len() == channels * BYTES && order.iter().all(|&channel| (channel as usize) < channels),
            "{} inputs for the bytes of the channels {order:?}",
            table.len()
        );
        let offsets: Vec<u32> = (0..channels).map(|channel| (channel * BYTES) as u32).collect();
        let same = order.iter().enumerate().all(|(i, &channel)| i == channel as usize);
        Ok(Self {
            table: Tensor::from_slice(table, table.len(), device)?,
            offsets: Tensor::from_vec(offsets, (1, channels), device)?,
            order: if same { None } else { Some(Tensor::from_slice(order, channels, device)?) },
        })
    }

    /// The inputs, `f32`, of pixels `[batch, height, width, channels]` of `u8` on the same device.
    ///
    /// # Errors
    /// If they are not that.
    pub fn of(&self, pixels: &Tensor) -> Result<Tensor> {
        let channels = self.offsets.elem_count();
        ensure!(
            pixels.dtype() == DType::U8 && pixels.dims().last() == Some(&channels),
            "pixels of {:?} {:?} cannot be looked up for {channels} channels",
            pixels.dtype(),
            pixels.dims()
        );
        let places = pixels.reshape(((), channels))?;
        let places = match &self.order {
            Some(order) => places.index_select(order, 1)?,
            None => places,
        };
        // As 32 bits: of an index that is the largest of its type CUDA's kernel makes zero, and 255 is one.
        let places = places.to_dtype(DType::U32)?.broadcast_add(&self.offsets)?.flatten_all()?;
        Ok(self.table.index_select(&places, 0)?.reshape(pixels.dims())?)
    }
}

/// Exchanges the two sides of an axis of the images for which `chosen` says so: of `[batch, height, width, channels]`, axis 1 is top and
/// bottom, axis 2 left and right.
///
/// # Errors
/// If there is not one choice for each image.
pub fn mirrored(images: &Tensor, axis: usize, chosen: &[bool]) -> Result<Tensor> {
    let (batch, height, width, _) = images.dims4()?;
    ensure!(chosen.len() == batch && (axis == 1 || axis == 2), "{} choices for {batch} images", chosen.len());
    if !chosen.contains(&true) {
        return Ok(images.clone());
    }
    let length = if axis == 1 { height } else { width } as u32;
    let backwards = Tensor::from_iter((0..length).rev(), images.device())?;
    let all = images.contiguous()?.index_select(&backwards, axis)?;
    if !chosen.contains(&false) {
        return Ok(all);
    }
    let chosen = Tensor::from_iter(chosen.iter().map(|&chosen| u8::from(chosen)), images.device())?;
    let chosen = chosen.reshape((batch, 1, 1, 1))?.broadcast_as(images.shape())?;
    Ok(chosen.where_cond(&all, images)?)
}

/// `share * image + (1 - share) * other`, where the other image is the one before, of the first image the last; `[batch, ...]`.
///
/// # Errors
/// If there is no image.
pub fn blended_with_previous(images: &Tensor, share: f32) -> Result<Tensor> {
    let batch = images.dim(0)?;
    ensure!(batch > 0, "there is no image to blend");
    let others = Tensor::cat(&[images.narrow(0, batch - 1, 1)?, images.narrow(0, 0, batch - 1)?], 0)?;
    let (own, other) = (f64::from(share), f64::from(1.0 - share));
    Ok((images.affine(own, 0.0)? + others.affine(other, 0.0)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes `[2, 3, 5, 3]`, each another one than its neighbours.
    fn pixels() -> Tensor {
        let values: Vec<u8> = (0..90u32).map(|i| (i * 57 + 3) as u8).collect();
        Tensor::from_vec(values, (2, 3, 5, 3), &Device::Cpu).unwrap()
    }

    fn values<T: candle_core::WithDType>(tensor: &Tensor) -> Vec<T> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_byte_of_every_channel_becomes_its_own_input() {
        let table: Vec<f32> = (0..768).map(|i| i as f32 * 1.5 - 300.0).collect();
        let all: Vec<u8> = (0..=255u8).flat_map(|v| [v, v, v]).collect();
        let pixels = Tensor::from_vec(all, (1, 16, 16, 3), &Device::Cpu).unwrap();
        let inputs = PixelInputs::new(&table, &[0, 1, 2], &Device::Cpu).unwrap().of(&pixels).unwrap();
        assert_eq!(inputs.dims(), [1, 16, 16, 3]);
        for (i, input) in values::<f32>(&inputs).into_iter().enumerate() {
            assert_eq!(input, table[i % 3 * 256 + i / 3], "channel {}, byte {}", i % 3, i / 3);
        }
    }

    #[test]
    fn channels_come_in_the_order_of_the_network() {
        let table: Vec<f32> = (0..768).map(|i| i as f32).collect();
        let pixels = Tensor::from_vec(vec![1u8, 2, 3, 250, 255, 0], (1, 1, 2, 3), &Device::Cpu).unwrap();
        let inputs = PixelInputs::new(&table, &[2, 1, 0], &Device::Cpu).unwrap().of(&pixels).unwrap();
        assert_eq!(values::<f32>(&inputs), [3.0, 258.0, 513.0, 0.0, 511.0, 762.0]);
    }

    #[test]
    fn what_does_not_fit_the_table_is_refused() {
        assert!(PixelInputs::new(&[0.0; 512], &[0, 1, 2], &Device::Cpu).is_err(), "two channels of inputs for three");
        assert!(PixelInputs::new(&[0.0; 768], &[0, 1, 3], &Device::Cpu).is_err(), "there is no fourth channel");
        let inputs = PixelInputs::new(&[0.0; 768], &[0, 1, 2], &Device::Cpu).unwrap();
        assert!(inputs.of(&Tensor::zeros((1, 2, 2, 3), DType::F32, &Device::Cpu).unwrap()).is_err(), "floats");
        assert!(inputs.of(&Tensor::zeros((1, 2, 2, 4), DType::U8, &Device::Cpu).unwrap()).is_err(), "four channels");
    }

    #[test]
    fn only_the_chosen_images_are_mirrored() {
        let before = values::<u8>(&pixels());
        for axis in [1, 2] {
            for chosen in [[false, false], [true, false], [false, true], [true, true]] {
                let after = values::<u8>(&mirrored(&pixels(), axis, &chosen).unwrap());
                for (image, chosen) in chosen.into_iter().enumerate() {
                    for (y, x, c) in (0..45).map(|i| (i / 15, i / 3 % 5, i % 3)) {
                        let from = match (chosen, axis) {
                            (false, _) => (y, x),
                            (true, 1) => (2 - y, x),
                            (true, _) => (y, 4 - x),
                        };
                        let at = |(y, x): (usize, usize)| image * 45 + y * 15 + x * 3 + c;
                        assert_eq!(after[at((y, x))], before[at(from)], "axis {axis}, image {image}: {y}, {x}");
                    }
                }
            }
        }
        assert!(mirrored(&pixels(), 1, &[true]).is_err(), "one choice for two images");
    }

    #[test]
    fn each_image_is_blended_with_the_one_before() {
        let images = Tensor::from_vec(vec![1f32, 10.0, 100.0], (3, 1, 1, 1), &Device::Cpu).unwrap();
        let blended = values::<f32>(&blended_with_previous(&images, 0.75).unwrap());
        assert_eq!(blended, [0.75 + 25.0, 7.5 + 0.25, 75.0 + 2.5]);
        let alone = images.narrow(0, 1, 1).unwrap();
        assert_eq!(values::<f32>(&blended_with_previous(&alone, 0.75).unwrap()), [10.0]);
    }
}
