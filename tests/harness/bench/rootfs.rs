//! A guest image as a directory, for a runsc that has no containerd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use harness::version;
use serde_json::Value;

use super::Result;

/// The image's root file system, unpacked below that directory. Our images have one, uncompressed layer.
pub(crate) fn unpack(image: &str, dir: &Path) -> Result<PathBuf> {
    let (archive, rootfs) = (dir.join("image"), dir.join("rootfs"));
    fs::create_dir_all(&rootfs)?;
    tar::Archive::new(File::open(version::image(image))?).unpack(&archive)?;
    let index = json(&archive.join("index.json"))?;
    let manifest = json(&blob(&archive, &index["manifests"][0]["digest"])?)?;
    let layer = blob(&archive, &manifest["layers"][0]["digest"])?;
    tar::Archive::new(File::open(layer)?).unpack(&rootfs)?;
    fs::remove_dir_all(&archive)?;
    Ok(rootfs)
}

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn blob(archive: &Path, digest: &Value) -> Result<PathBuf> {
    let digest = digest.as_str().ok_or("the image's archive names no digest")?;
    Ok(archive.join("blobs").join(digest.replace(':', "/")))
}
