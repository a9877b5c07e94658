//! Mount options as containerd writes them: flags for the kernel, data for the file system, hints for neither.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::{RootfsError, RootfsMount};

/// The kernel copies one page of mount options, the closing nul included.
const LONGEST_DATA: usize = 4095;

/// What a mount's options amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// The source is an image file, which a loop device has to show as a block device.
    pub(super) on_loop: bool,
    pub(super) data: Vec<String>,
}

/// Splits options into the kernel's flags and the file system's own data.
pub(super) fn parse_options(options: &[String]) -> Options {
    let mut parsed = Options { flags: MsFlags::empty(), on_loop: false, data: Vec::new() };
    for option in options {
        match flag_of(option) {
            Some((true, flag)) => parsed.flags.insert(flag),
            Some((false, flag)) => parsed.flags.remove(flag),
            None if option == "loop" => parsed.on_loop = true,
            // Hints for user space, which the kernel would refuse.
            None if option.is_empty() || option == "defaults" || option.starts_with("X-containerd.") => {}
            None => parsed.data.push(option.clone()),
        }
    }
    parsed
}

/// The kernel's flag for an option, and whether the option sets or clears it.
fn flag_of(option: &str) -> Option<(bool, MsFlags)> {
    Some(match option {
        "ro" => (true, MsFlags::MS_RDONLY),
        "rw" => (false, MsFlags::MS_RDONLY),
        "nosuid" => (true, MsFlags::MS_NOSUID),
        "suid" => (false, MsFlags::MS_NOSUID),
        "nodev" => (true, MsFlags::MS_NODEV),
        "dev" => (false, MsFlags::MS_NODEV),
        "noexec" => (true, MsFlags::MS_NOEXEC),
        "exec" => (false, MsFlags::MS_NOEXEC),
        "sync" => (true, MsFlags::MS_SYNCHRONOUS),
        "async" => (false, MsFlags::MS_SYNCHRONOUS),
        "dirsync" => (true, MsFlags::MS_DIRSYNC),
        "mand" => (true, MsFlags::MS_MANDLOCK),
        "nomand" => (false, MsFlags::MS_MANDLOCK),
        "noatime" => (true, MsFlags::MS_NOATIME),
        "atime" => (false, MsFlags::MS_NOATIME),
        "nodiratime" => (true, MsFlags::MS_NODIRATIME),
        "diratime" => (false, MsFlags::MS_NODIRATIME),
        "relatime" => (true, MsFlags::MS_RELATIME),
        "norelatime" => (false, MsFlags::MS_RELATIME),
        "strictatime" => (true, MsFlags::MS_STRICTATIME),
        "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
        "bind" => (true, MsFlags::MS_BIND),
        "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
        _ => return None,
    })
}

/// Mount data that fits the kernel's page: an image of many layers names each of them, and their common directory is
/// left out by mounting from there.
pub(super) struct Compacted {
    directory: Option<PathBuf>,
    data: String,
}

impl Compacted {
    pub(super) fn new(one: &RootfsMount, options: &Options) -> Result<Self, RootfsError> {
        let data = options.data.join(",");
        if data.len() <= LONGEST_DATA {
            return Ok(Self { directory: None, data });
        }
        let too_long = RootfsError::OptionsTooLong { kind: one.kind.clone(), length: data.len() };
        if one.kind != "overlay" {
            return Err(too_long);
        }
        let lower = options.data.iter().find_map(|option| option.strip_prefix("lowerdir="));
        let Some(directory) = lower.and_then(common_directory) else { return Err(too_long) };
        let prefix = format!("{}/", directory.display());
        let shorter: Vec<String> = options.data.iter().map(|option| relative_to(option, &prefix)).collect();
        let data = shorter.join(",");
        if data.len() > LONGEST_DATA {
            return Err(too_long);
        }
        Ok(Self { directory: Some(directory), data })
    }

    pub(super) fn during(&self, mount: impl FnOnce(Option<&str>) -> nix::Result<()>) -> nix::Result<()> {
        let data = (!self.data.is_empty()).then_some(self.data.as_str());
        let Some(directory) = &self.directory else { return mount(data) };
        nix::unistd::chdir(directory)?;
        let mounted = mount(data);
        nix::unistd::chdir("/")?;
        mounted
    }
}

fn relative_to(option: &str, prefix: &str) -> String {
    match option.split_once('=') {
        Some((key @ ("lowerdir" | "upperdir" | "workdir"), paths)) => {
            let shorter: Vec<&str> = paths.split(':').map(|p| p.strip_prefix(prefix).unwrap_or(p)).collect();
            format!("{key}={}", shorter.join(":"))
        }
        _ => option.to_owned(),
    }
}

/// The deepest directory that holds all of `lower`, a list of layers.
fn common_directory(lower: &str) -> Option<PathBuf> {
    let mut layers = lower.split(':').map(Path::new);
    let mut common = layers.next()?.parent()?.to_owned();
    for layer in layers {
        while !layer.starts_with(&common) {
            common = common.parent()?.to_owned();
        }
    }
    common.parent().is_some().then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;
    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|o| (*o).to_owned()).collect()
    }

    fn overlay_of(layers: usize) -> RootfsMount {
        let directory = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let lower: Vec<String> = (0..layers).map(|n| format!("{directory}/{n}/fs")).collect();
        RootfsMount {
            kind: "overlay".into(),
            options: vec![format!("lowerdir={}", lower.join(":")), format!("upperdir={directory}/u/fs")],
            ..RootfsMount::default()
        }
    }

    #[test]
    fn flags_go_to_the_kernel_and_the_rest_to_the_file_system() {
        let options =
            parse_options(&strings(&["rbind", "ro", "nosuid", "lowerdir=/a", "X-containerd.x", "suid"]));
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(options.data, ["lowerdir=/a"]);
    }

    #[test]
    fn an_image_of_many_layers_fits_the_kernels_page() {
        let one = overlay_of(120);
        let compacted = Compacted::new(&one, &parse_options(&one.options)).unwrap();
        assert!(compacted.directory.unwrap().ends_with("snapshots"));
        assert!(compacted.data.starts_with("lowerdir=0/fs:1/fs:"));
        assert!(compacted.data.ends_with("upperdir=u/fs"));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let one = overlay_of(1000);
        let result = Compacted::new(&one, &parse_options(&one.options));
        assert!(matches!(result, Err(RootfsError::OptionsTooLong { .. })));
    }
}
