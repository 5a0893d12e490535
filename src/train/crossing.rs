//! What crosses the cut of a network, as records of the feature cache: each tensor keeps its numbers, whatever their type.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, WithDType};
use half::bf16;

use crate::models::Network;
use crate::ops::{Upload, Uploader};

/// A layer's output for one photo.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    layer: String,
    shape: Vec<usize>,
    dtype: DType,
}

/// All that crosses a cut for one photo, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    parts: Vec<Part>,
}

/// Bytes for each photo of what the first half of a network, as it is frozen now, hands to the second one. `None` if that half is the input
/// alone: nothing is saved by keeping it.
pub fn first_half_bytes(network: &Network) -> Option<usize> {
    let cut = network.first_half_end();
    (cut > 1).then(|| Crossing::of(network, cut).record_bytes())
}

impl Part {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size_in_bytes()
    }

    /// The numbers of each photo of a batch.
    fn write(&self, tensor: &Tensor, records: &mut [Vec<u8>]) -> Result<()> {
        match self.dtype {
            DType::BF16 => write(tensor, bf16::to_le_bytes, records),
            _ => write(tensor, f32::to_le_bytes, records),
        }
    }

    /// The shape of so many photos.
    fn dims(&self, photos: usize) -> Vec<usize> {
        std::iter::once(photos).chain(self.shape.iter().copied()).collect()
    }

    /// A batch from the numbers of each photo.
    fn read(&self, numbers: &[&[u8]], device: &Device) -> Result<Tensor> {
        let dims = self.dims(numbers.len());
        Ok(match self.dtype {
            DType::BF16 => Tensor::from_vec(read(numbers, bf16::from_le_bytes), dims, device)?,
            _ => Tensor::from_vec(read(numbers, f32::from_le_bytes), dims, device)?,
        })
    }

    /// [`Self::read`], on its way to a device.
    fn upload(&self, numbers: &[&[u8]], uploader: &Uploader) -> Result<Upload> {
        let dims = self.dims(numbers.len());
        match self.dtype {
            DType::BF16 => uploader.upload(read(numbers, bf16::from_le_bytes), &dims),
            _ => uploader.upload(read(numbers, f32::from_le_bytes), &dims),
        }
    }
}

impl Crossing {
    /// What crosses a cut of the network, in the precision that it computes in.
    pub fn of(network: &Network, cut: usize) -> Self {
        let part = |layer: usize| {
            let dtype = network.output_type(layer);
            let layer = &network.graph().layers[layer];
            Part { layer: layer.name.clone(), shape: layer.shape.dims(), dtype }
        };
        Self { parts: network.crossing(cut).into_iter().map(part).collect() }
    }

    /// Length of the record of a photo.
    pub fn record_bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// The record of each photo of a batch.
    ///
    /// # Errors
    /// If these are not the tensors that cross the cut.
    pub fn records(&self, tensors: &[Tensor]) -> Result<Vec<Vec<u8>>> {
        let photos = tensors.first().and_then(|t| t.dims().first()).copied().unwrap_or_default();
        ensure!(tensors.len() == self.parts.len(), "{} tensors for {} layers", tensors.len(), self.parts.len());
        let mut records = vec![Vec::with_capacity(self.record_bytes()); photos];
        for (part, tensor) in self.parts.iter().zip(tensors) {
            let (dtype, shape) = (tensor.dtype(), tensor.dims());
            ensure!(
                dtype == part.dtype && shape.split_first() == Some((&photos, part.shape.as_slice())),
                "the outputs of {} are {dtype:?} {shape:?}, expected {:?} {:?} for each of {photos} photos",
                part.layer,
                part.dtype,
                part.shape
            );
            part.write(tensor, &mut records)?;
        }
        Ok(records)
    }

    /// The tensors of a batch from the record of each photo: the same types and bits as went into [`Self::records`].
    ///
    /// # Errors
    /// If a record is too short.
    pub fn tensors(&self, records: &[&[u8]], device: &Device) -> Result<Vec<Tensor>> {
        self.each_part(records, |part, numbers| part.read(numbers, device))
    }

    /// [`Self::tensors`], on their way to a device.
    ///
    /// # Errors
    /// If a record is too short, or the device has no room.
    pub fn uploads(&self, records: &[&[u8]], uploader: &Uploader) -> Result<Vec<Upload>> {
        self.each_part(records, |part, numbers| part.upload(numbers, uploader))
    }

    /// Tensors of zeros for so many photos.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn zeros(&self, photos: usize, device: &Device) -> Result<Vec<Tensor>> {
        self.parts.iter().map(|part| Ok(Tensor::zeros(part.dims(photos), part.dtype, device)?)).collect()
    }

    /// Whether a device can choose among the tensors of so many photos: candle's kernels count the values with 32 bits.
    pub fn is_indexable(&self, photos: usize) -> bool {
        self.parts.iter().all(|part| u32::try_from(part.dims(photos).iter().product::<usize>()).is_ok())
    }

    /// Calls `take` with each part and what the records say of it.
    fn each_part<R>(&self, records: &[&[u8]], take: impl Fn(&Part, &[&[u8]]) -> Result<R>) -> Result<Vec<R>> {
        let mut rest = records.to_vec();
        let mut taken = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut numbers = Vec::with_capacity(rest.len());
            for record in &mut rest {
                let (own, others) = record.split_at_checked(part.bytes()).context("a photo has no cached features")?;
                numbers.push(own);
                *record = others;
            }
            taken.push(take(part, &numbers)?);
        }
        Ok(taken)
    }
}

fn write<T: WithDType, const N: usize>(
    tensor: &Tensor,
    bytes: impl Fn(T) -> [u8; N] + Copy,
    records: &mut [Vec<u8>],
) -> Result<()> {
    for (record, numbers) in records.iter_mut().zip(tensor.flatten_from(1)?.to_vec2::<T>()?) {
        let numbers: Vec<[u8; N]> = numbers.into_iter().map(bytes).collect();
        record.extend_from_slice(numbers.as_flattened());
    }
    Ok(())
}

fn read<T, const N: usize>(numbers: &[&[u8]], number: impl Fn([u8; N]) -> T + Copy) -> Vec<T> {
    let mut read = Vec::with_capacity(numbers.iter().map(|numbers| numbers.len() / N).sum());
    // Photo by photo, whose length is known: the conversion is then no more than a copy.
    numbers.iter().for_each(|numbers| read.extend(numbers.as_chunks::<N>().0.iter().map(|bytes| number(*bytes))));
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::feature_cache::{FeatureCache, Opened};
    use crate::models::Architecture;
    use crate::ops::Precision;

    fn part(layer: &str, shape: &[usize], dtype: DType) -> Part {
        Part { layer: layer.to_owned(), shape: shape.to_vec(), dtype }
    }

    /// Every pattern of 16 bits in turn: numbers, subnormal ones, both zeros, infinities, not-a-numbers.
    fn halves(count: usize) -> Vec<bf16> {
        (0..count).map(|i| bf16::from_bits((i * 977 + 0x7f7e) as u16)).collect()
    }

    /// An odd number of bfloat16 before single precision, which then lies at no multiple of 4 bytes.
    fn mixed(photos: usize) -> (Crossing, Vec<Tensor>) {
        let parts = vec![part("a", &[3, 5, 7], DType::BF16), part("b", &[11], DType::F32)];
        let floats: Vec<f32> = (0..photos * 11).map(|i| f32::from_bits(i as u32 * 40_503_001)).collect();
        let tensors = vec![
            Tensor::from_vec(halves(photos * 105), (photos, 3, 5, 7), &Device::Cpu).unwrap(),
            Tensor::from_vec(floats, (photos, 11), &Device::Cpu).unwrap(),
        ];
        (Crossing { parts }, tensors)
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let flat = tensor.flatten_all().unwrap();
        match tensor.dtype() {
            DType::BF16 => flat.to_vec1::<bf16>().unwrap().into_iter().map(|half| half.to_bits().into()).collect(),
            _ => flat.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect(),
        }
    }

    #[test]
    fn features_come_back_from_the_disk_in_their_own_type_bit_by_bit() {
        let (crossing, tensors) = mixed(4);
        assert_eq!(crossing.record_bytes(), 105 * 2 + 11 * 4, "bfloat16 takes half the bytes");
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let Opened::Build(mut writer) = cache.open_or_create("ab", crossing.record_bytes(), 4).unwrap() else {
            panic!("new")
        };
        for (index, record) in crossing.records(&tensors).unwrap().iter().enumerate() {
            writer.append(index, record).unwrap();
        }
        let reader = writer.finish().unwrap();
        let order = [2, 0, 3, 2];
        let records: Vec<&[u8]> = order.iter().map(|&index| reader.record(index)).collect();
        let read = crossing.tensors(&records, &Device::Cpu).unwrap();
        let order = Tensor::from_vec(order.map(|i| i as u32).to_vec(), 4, &Device::Cpu).unwrap();
        for (read, tensor) in read.iter().zip(&tensors) {
            let expected = tensor.index_select(&order, 0).unwrap();
            assert_eq!((read.dtype(), read.dims()), (expected.dtype(), expected.dims()));
            assert_eq!(bits(read), bits(&expected));
        }
        assert!(crossing.tensors(&[reader.record(4)], &Device::Cpu).is_err(), "there is no fifth photo");
    }

    #[test]
    fn tensors_of_another_type_shape_or_number_are_refused() {
        let (crossing, tensors) = mixed(2);
        let refused = |tensors: &[Tensor], what: &str| {
            let error = crossing.records(tensors).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        let [halves, floats] = [0, 1].map(|i| tensors[i].clone());
        refused(&[halves.to_dtype(DType::F32).unwrap(), floats.clone()], "the outputs of a are F32");
        refused(&[halves.clone(), floats.narrow(0, 0, 1).unwrap()], "for each of 2 photos");
        refused(&[halves.clone(), floats.narrow(1, 0, 10).unwrap()], "the outputs of b");
        refused(&[halves], "1 tensors for 2 layers");
    }

    #[test]
    fn what_crosses_a_cut_is_stored_as_the_network_gives_it() {
        let graph = Architecture::find("resnet-mini").unwrap().backbone((32, 32)).unwrap();
        let mut network = Network::new(graph, 0, &Device::Cpu).unwrap();
        let images = Tensor::ones((3, 32, 32, 3), DType::F32, &Device::Cpu).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            network.set_precision(precision);
            for cut in [5, 12, network.graph().layers.len()] {
                let given = network.forward_to(cut, &images).unwrap();
                let crossing = Crossing::of(&network, cut);
                let records = crossing.records(&given).unwrap();
                assert_eq!(records.len(), 3);
                let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                for (read, given) in crossing.tensors(&records, &Device::Cpu).unwrap().iter().zip(&given) {
                    assert_eq!((read.dtype(), bits(read)), (given.dtype(), bits(given)), "cut {cut}, {precision:?}");
                }
            }
        }
    }
}
