//! Identifies the hypervisor by the CPU.

/// Returns the hypervisor's signature, such as `KVMKVMKVM` or `TCGTCGTCGTCG`.
///
/// The signature is CPUID leaf 0x4000_0000. It is read if leaf 1 reports a hypervisor by ECX bit 31,
/// which Intel and AMD reserve for hypervisors. Bytes other than printable ASCII are escaped. `None`
/// means that no hypervisor reports itself, or that the CPU is an Arm CPU, which has no signature.
#[must_use]
pub fn signature() -> Option<String> {
    registers().map(text)
}

/// Returns the signature's twelve bytes as text, without the zeros at their end.
fn text(registers: [u32; 3]) -> String {
    let bytes = registers.map(u32::to_le_bytes);
    let bytes = bytes.as_flattened();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    bytes
        .get(..end)
        .unwrap_or_default()
        .escape_ascii()
        .to_string()
}

#[cfg(target_arch = "x86_64")]
fn registers() -> Option<[u32; 3]> {
    use core::arch::x86_64::__cpuid;
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    Some([leaf.ebx, leaf.ecx, leaf.edx])
}

#[cfg(not(target_arch = "x86_64"))]
fn registers() -> Option<[u32; 3]> {
    None
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_signature_is_the_registers_as_printable_text() {
        let [kvm, m] = [*b"KVMK", *b"VMKV"].map(u32::from_le_bytes);
        assert_eq!(text([kvm, m, u32::from(b'M')]), "KVMKVMKVM");
        assert_eq!(text([u32::from_le_bytes(*b"\x1b[2J"), 0, 0]), "\\x1b[2J");
        assert_eq!(text([0; 3]), "");
    }
}
