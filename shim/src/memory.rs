//! Memory that is no longer needed goes back to the system: a node runs many shims, and most of them wait.

#![allow(unsafe_code, reason = "the kernel's and the allocator's own calls have no safe wrappers here")]

use std::fs;

/// Gives back what a burst of work has left free, such as the parsing of a spec, and the code that was needed to start
/// and is mapped all the same.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and may be made at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code_of_file) {
        // SAFETY: the range is a mapping of a file that is executable and cannot be written to, as the kernel has just
        // said, so its pages are the file's: what is used again is mapped again, unchanged.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length of a mapping that holds a file's code.
fn code_of_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let is_code = permissions == "r-xp" && fields.nth(3)?.starts_with('/');
    is_code.then(|| (start, end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let code = "7f00-7f10 r-xp 00026000 fe:00 326269                     /usr/lib/libc.so.6";
        assert_eq!(code_of_file(code), Some((0x7f00, 0x10)));
        for other in [
            "7f00-7f10 rw-p 00026000 fe:00 326269                     /usr/lib/libc.so.6",
            "7f00-7f10 r--p 00026000 fe:00 326269                     /usr/lib/libc.so.6",
            "7f00-7f10 r-xp 00000000 00:00 0                          [vdso]",
            "7f00-7f10 r-xp 00000000 00:00 0",
            "rubbish",
        ] {
            assert_eq!(code_of_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_after_it() {
        trim();
        assert_eq!("still here".len(), 10);
    }
}
