//! `pack-image`: a directory in, an OCI image archive with one uncompressed layer out.
//!
//! The same directory always gives the same bytes: entries are sorted, owned by
//! root and dated 1970. Files that a guest could not use (sockets, devices) are
//! refused rather than left out.
#![allow(
    clippy::disallowed_methods,
    reason = "the archive is made beside its place and renamed by the caller"
)]

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const USAGE: &str = "usage: pack-image --root DIR --name NAME --out FILE \
    [--entrypoint WORD]… [--env KEY=VALUE]… [--workdir DIR]";

fn main() -> ExitCode {
    let done = Order::parse(std::env::args().skip(1))
        .and_then(|order| pack(&order).map_err(|e| format!("failed to pack {}: {e}", order.root.display())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nothing can be done about a closed stderr.
            let _ = writeln!(io::stderr(), "pack-image: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What to pack and what the image's configuration says.
#[derive(Default)]
struct Order {
    root: PathBuf,
    out: PathBuf,
    name: String,
    entrypoint: Vec<String>,
    env: Vec<String>,
    workdir: String,
}

impl Order {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut order = Self { workdir: "/".into(), ..Self::default() };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            match flag.as_str() {
                "--root" => order.root = value.into(),
                "--out" => order.out = value.into(),
                "--name" => order.name = value,
                "--entrypoint" => order.entrypoint.push(value),
                "--env" => order.env.push(value),
                "--workdir" => order.workdir = value,
                _ => return Err(format!("unknown flag {flag}\n{USAGE}")),
            }
        }
        if order.name.is_empty() || !order.root.is_dir() || order.out.as_os_str().is_empty() {
            return Err(format!("--root (a directory), --name and --out are required\n{USAGE}"));
        }
        Ok(order)
    }
}

fn pack(order: &Order) -> io::Result<()> {
    let layer_path = order.out.with_extension("layer");
    let packed = pack_by_way_of(&layer_path, order);
    let removed = fs::remove_file(&layer_path);
    packed.and(removed)
}

fn pack_by_way_of(layer_path: &Path, order: &Order) -> io::Result<()> {
    let mut layer = File::create_new(layer_path)?;
    write_layer(&order.root, &mut layer)?;
    let (layer_digest, layer_size) = digest_of(layer_path)?;

    let config = to_json(&image_config(order, &layer_digest))?;
    let manifest = to_json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_size,
        }],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "io.containerd.image.name": order.name });
    entry["platform"] = platform();
    let index = to_json(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

    let mut archive = tar::Builder::new(io::BufWriter::new(File::create(&order.out)?));
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", &index)?;
    for blob in [&manifest, &config] {
        append(&mut archive, &blob_path(&hex(&Sha256::digest(blob))), blob)?;
    }
    layer.rewind()?;
    let mut header = plain_header(0o644, layer_size);
    archive.append_data(&mut header, blob_path(&layer_digest), &mut layer)?;
    archive.into_inner()?.into_inner()?.sync_all()
}

/// The layer: everything below `root`, in the order of names.
fn write_layer(root: &Path, layer: &mut File) -> io::Result<()> {
    let mut entries = Vec::new();
    collect(root, &mut entries)?;
    entries.sort();
    let mut tar = tar::Builder::new(io::BufWriter::new(layer));
    for path in entries {
        let inside = path.strip_prefix(root).map_err(io::Error::other)?;
        let meta = fs::symlink_metadata(&path)?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            let mut header = plain_header(0o777, 0);
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, inside, fs::read_link(&path)?)?;
        } else if meta.is_dir() {
            let mut header = plain_header(mode, 0);
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, inside, io::empty())?;
        } else if meta.is_file() {
            let mut header = plain_header(mode, meta.len());
            tar.append_data(&mut header, inside, File::open(&path)?)?;
        } else {
            let what = format!("{} is no file, directory or link", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    tar.into_inner()?.flush()
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        into.push(entry.path());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        }
    }
    Ok(())
}

fn image_config(order: &Order, layer_digest: &str) -> Value {
    let mut config = platform();
    config["created"] = json!("1970-01-01T00:00:00Z");
    config["config"] = json!({
        "Env": order.env,
        "Entrypoint": order.entrypoint,
        "WorkingDir": order.workdir,
    });
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] });
    config["history"] = json!([{ "created": "1970-01-01T00:00:00Z", "created_by": "pack-image" }]);
    config
}

/// Go's names for the machine this runs on: the root comes from its packages.
fn platform() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({ "architecture": architecture, "os": "linux" })
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", hex(&Sha256::digest(content))),
        "size": content.len(),
    })
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = plain_header(0o644, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn plain_header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hex(&hash.finalize()), size));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

fn to_json(value: &Value) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
