//! Loop devices, for snapshots that are image files.

#![allow(unsafe_code, reason = "the loop driver's requests have no safe wrapper")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

// From the kernel's `include/uapi/linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Others take free devices too; so often is the next one tried.
const ATTEMPTS: u32 = 32;

/// `struct loop_config`: a descriptor, a block size, and a `struct loop_info64` of which the flags alone are set.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info_before_flags: [u64; 5],
    info_numbers: [u32; 3],
    info_flags: u32,
    info_after_flags: [u8; 176],
    reserved: [u64; 8],
}

/// A device that shows a file as a block device for as long as it is open or mounted.
#[derive(Debug)]
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: OwnedFd,
}

impl LoopDevice {
    /// Attaches `image` to a free device, which detaches by itself once it is unmounted.
    ///
    /// # Errors
    /// The image cannot be opened, or no device is to be had.
    pub(super) fn attach(image: &Path, read_only: bool) -> io::Result<Self> {
        let image = OpenOptions::new().read(true).write(!read_only).open(image)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..ATTEMPTS {
            // SAFETY: the request takes no argument and returns a number.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            match configure(&path, &image, read_only) {
                // Somebody was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
                Ok(open) => return Ok(Self { path, _open: open }),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(path: &Path, image: &File, read_only: bool) -> io::Result<OwnedFd> {
    let device = OwnedFd::from(OpenOptions::new().read(true).write(true).open(path)?);
    let config = LoopConfig {
        fd: image.as_raw_fd().cast_unsigned(),
        block_size: 0,
        info_before_flags: [0; 5],
        info_numbers: [0; 3],
        info_flags: LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 },
        info_after_flags: [0; 176],
        reserved: [0; 8],
    };
    // SAFETY: the request reads one `struct loop_config`, which `config` is laid out as and outlives the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_kernels_size() {
        // The descriptor and the block size, `struct loop_info64` with its 232 bytes, and what is reserved.
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(std::mem::offset_of!(LoopConfig, info_flags), 60);
    }
}
