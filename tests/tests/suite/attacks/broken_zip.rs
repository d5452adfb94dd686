//! Zips of stored entries, written field by field, so that any field can lie.

/// An entry, and what is said of it.
#[derive(Clone)]
pub struct Entry {
    /// The name in both headers.
    pub name: Vec<u8>,
    /// The name in the local header, where it is another.
    pub local_name: Option<Vec<u8>>,
    /// The bytes.
    pub data: Vec<u8>,
    /// 0 for stored.
    pub method: u16,
    /// Bit 0 is encryption.
    pub flags: u16,
    /// The compressed and the plain size, where they are not those of the data.
    pub sizes: Option<(u32, u32)>,
    /// Where the directory says that the local header lies, where that is elsewhere.
    pub offset: Option<u32>,
    /// The directory's extra field.
    pub extra: Vec<u8>,
    /// The checksum is one off.
    pub damaged: bool,
    /// Unix mode.
    pub mode: u32,
}

impl Entry {
    /// A sound entry.
    pub fn new(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            data: data.to_vec(),
            method: 0,
            flags: 0,
            sizes: None,
            offset: None,
            extra: Vec::new(),
            damaged: false,
            mode: 0o100_644,
        }
    }
}

/// The checksum of a zip's entries.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The zip; `count` is how many entries the end record claims, if not those that there are.
pub fn zip(entries: &[Entry], count: Option<u16>) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let word = |to: &mut Vec<u8>, word: u16| to.extend(word.to_le_bytes());
    let double = |to: &mut Vec<u8>, double: u32| to.extend(double.to_le_bytes());
    for entry in entries {
        let start = file.len() as u32;
        let size = entry.data.len() as u32;
        let (packed, plain) = entry.sizes.unwrap_or((size, size));
        let sum = crc(&entry.data).wrapping_add(u32::from(entry.damaged));
        let common = |to: &mut Vec<u8>, name: &[u8], extra: usize| {
            word(to, 20);
            word(to, entry.flags);
            word(to, entry.method);
            double(to, 0x21_0000);
            double(to, sum);
            double(to, packed);
            double(to, plain);
            word(to, name.len() as u16);
            word(to, extra as u16);
        };
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        double(&mut file, 0x0403_4b50);
        common(&mut file, local_name, 0);
        file.extend(local_name);
        file.extend(&entry.data);
        double(&mut directory, 0x0201_4b50);
        word(&mut directory, 0x0314);
        common(&mut directory, &entry.name, entry.extra.len());
        word(&mut directory, 0);
        word(&mut directory, 0);
        word(&mut directory, 0);
        double(&mut directory, entry.mode << 16);
        double(&mut directory, entry.offset.unwrap_or(start));
        directory.extend(&entry.name);
        directory.extend(&entry.extra);
    }
    let (start, size) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    let count = count.unwrap_or(entries.len() as u16);
    double(&mut file, 0x0605_4b50);
    double(&mut file, 0);
    word(&mut file, count);
    word(&mut file, count);
    double(&mut file, size);
    double(&mut file, start);
    word(&mut file, 0);
    file
}
