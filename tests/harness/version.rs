//! What is pinned in `scripts/versions.env`, and where `scripts/setup` put it.

use std::path::PathBuf;

const PINS: &str = include_str!("../../scripts/versions.env");

/// The value of a pin, such as `RUNSC_VERSION`.
pub fn pin(key: &str) -> &'static str {
    PINS.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .unwrap_or_else(|| panic!("scripts/versions.env pins no {key}"))
}

/// The cache that `scripts/setup` fills.
pub fn cache() -> PathBuf {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or("/root".into())).join(".cache"),
    };
    base.join("curfew")
}

/// The pinned runsc; `CURFEW_RUNSC` names another.
pub fn runsc() -> PathBuf {
    let pinned = || obtained(&format!("runsc-{}/runsc", pin("RUNSC_VERSION")));
    std::env::var_os("CURFEW_RUNSC").map_or_else(pinned, PathBuf::from)
}

/// The directory with `containerd`, `ctr` and `containerd-shim-runc-v2`.
pub fn containerd(version: &str) -> PathBuf {
    obtained(&format!("containerd-{version}"))
}

/// The archive of a guest image, `busybox` or `python`: the newest in the cache.
pub fn image(name: &str) -> PathBuf {
    let prefix = format!("image-{name}-");
    let recipe = format!("-r{}", pin("IMAGE_RECIPE"));
    let newest = std::fs::read_dir(cache())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let dir = entry.file_name();
            let dir = dir.to_string_lossy();
            dir.starts_with(&prefix) && dir.ends_with(&recipe)
        })
        .max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
    match newest {
        Some(entry) => entry.path().join("image.tar"),
        None => panic!("no image {name} in {}: run scripts/setup", cache().display()),
    }
}

/// The shim under test: `CURFEW_SHIM`, or what `cargo build --release -p curfew-shim` made.
pub fn shim() -> PathBuf {
    if let Some(path) = std::env::var_os("CURFEW_SHIM") {
        return path.into();
    }
    let repo = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| repo.join("../target"));
    target.join("release/containerd-shim-curfew-v1")
}

/// What a new shim is installed over: `CURFEW_OLD_SHIM`, or the shim under test itself.
pub fn old_shim() -> PathBuf {
    std::env::var_os("CURFEW_OLD_SHIM").map_or_else(shim, PathBuf::from)
}

fn obtained(path: &str) -> PathBuf {
    let path = cache().join(path);
    assert!(path.exists(), "{} is missing: run scripts/setup", path.display());
    path
}
