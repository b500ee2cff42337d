//! The smallest executable: a static ELF file of one page that only exits, written byte by byte. No
//! program starts faster, so it is the floor of a start.

/// The instructions of `exit(0)`, and the type of their machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    /// `e_machine` (linux/elf-em.h).
    number: u16,
    /// The instructions.
    code: &'static [u8],
}

/// EM_X86_64: `mov $60, %eax; xor %edi, %edi; syscall` (asm/unistd_64.h: __NR_exit).
const X86_64: Machine = Machine { number: 62, code: &[0xb8, 0x3c, 0x00, 0x00, 0x00, 0x31, 0xff, 0x0f, 0x05] };

/// EM_AARCH64: `mov x8, #93; mov x0, #0; svc #0` (asm-generic/unistd.h: __NR_exit).
const AARCH64: Machine =
    Machine { number: 183, code: &[0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4] };

/// Sizes of Elf64_Ehdr and Elf64_Phdr (linux/elf.h).
const HEADER: u8 = 64;
const SEGMENT: u8 = 56;
/// Where the file is mapped: the usual address, a multiple of every page size.
const BASE: u64 = 0x40_0000;
/// The largest page of any machine.
const PAGE: u64 = 0x1_0000;

/// The file for this machine, if its instructions are known.
pub fn smallest() -> Option<Vec<u8>> {
    match std::env::consts::ARCH {
        "x86_64" => Some(file(X86_64)),
        "aarch64" => Some(file(AARCH64)),
        _ => None,
    }
}

/// Header, one segment that maps the whole file, and the instructions.
fn file(machine: Machine) -> Vec<u8> {
    let start = HEADER + SEGMENT;
    let size = u64::from(start) + machine.code.len() as u64;
    let mut file = vec![];
    // e_ident: the magic, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE, and padding.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // ET_EXEC, the machine, EV_CURRENT.
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.number.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // e_entry, e_phoff, e_shoff.
    file.extend((BASE + u64::from(start)).to_le_bytes());
    file.extend(u64::from(HEADER).to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    // e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    file.extend(0_u32.to_le_bytes());
    for half in [u16::from(HEADER), u16::from(SEGMENT), 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, PF_R | PF_X, then p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, PAGE] {
        file.extend(word.to_le_bytes());
    }
    file.extend(machine.code);
    file
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_entry_is_the_first_byte_after_the_headers() {
        for machine in [X86_64, AARCH64] {
            let file = file(machine);
            let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
            let entry = usize::try_from(word(24) - BASE).unwrap();
            assert_eq!(&file[entry..], machine.code);
            assert_eq!(entry, usize::from(HEADER + SEGMENT));
            assert_eq!((word(32), word(96), word(104)), (64, file.len() as u64, file.len() as u64));
        }
    }

    #[test]
    fn it_runs_and_exits_with_0() {
        let Some(file) = smallest() else { return };
        let path = std::env::temp_dir().join(format!("smallest-{}", std::process::id()));
        fs::write(&path, file).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let done = Command::new(&path).output();
        fs::remove_file(&path).unwrap();
        let done = done.unwrap();
        assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
    }
}
