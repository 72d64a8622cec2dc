/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * KVM introspection: the x86 part of the wire protocol, see <linux/kvmi.h>.
 */
#ifndef _UAPI_ASM_X86_KVMI_H
#define _UAPI_ASM_X86_KVMI_H

#include <asm/kvm.h>
#include <linux/types.h>

/* First argument of hypercall KVM_HC_XEN_HVM_OP that asks for an event. */
#define KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT 24

/**
 * struct kvmi_features - what this host can do, see KVMI_GET_VERSION
 * @singlestep: 1: KVMI_VCPU_CONTROL_SINGLESTEP works
 * @padding: zero
 */
struct kvmi_features {
	__u8 singlestep;
	__u8 padding[7];
};

/**
 * struct kvmi_vcpu_get_info_reply - reply data of KVMI_VCPU_GET_INFO
 * @tsc_speed: the guest's TSC frequency in Hz, 0 if TSC scaling is missing
 */
struct kvmi_vcpu_get_info_reply {
	__u64 tsc_speed;
};

/**
 * struct kvmi_vcpu_get_registers - KVMI_VCPU_GET_REGISTERS
 * @nmsrs: number of MSRs to read
 * @padding1: zero
 * @padding2: zero
 * @msrs_idx: their indexes
 */
struct kvmi_vcpu_get_registers {
	__u16 nmsrs;
	__u16 padding1;
	__u32 padding2;
	__u32 msrs_idx[];
};

/**
 * struct kvmi_vcpu_get_registers_reply - reply data of KVMI_VCPU_GET_REGISTERS
 * @mode: operand size of the code segment in bytes: 2, 4 or 8
 * @padding: zero
 * @regs: general purpose registers, rip and rflags
 * @sregs: segment, descriptor table and control registers
 * @msrs: the MSRs that were asked for, in the same order
 */
struct kvmi_vcpu_get_registers_reply {
	__u32 mode;
	__u32 padding;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_msrs msrs;
};

/**
 * struct kvmi_vcpu_get_cpuid - KVMI_VCPU_GET_CPUID
 * @function: CPUID leaf
 * @index: CPUID subleaf
 */
struct kvmi_vcpu_get_cpuid {
	__u32 function;
	__u32 index;
};

/**
 * struct kvmi_vcpu_get_cpuid_reply - reply data of KVMI_VCPU_GET_CPUID
 * @eax: as the guest would get it
 * @ebx: as the guest would get it
 * @ecx: as the guest would get it
 * @edx: as the guest would get it
 */
struct kvmi_vcpu_get_cpuid_reply {
	__u32 eax;
	__u32 ebx;
	__u32 ecx;
	__u32 edx;
};

/**
 * struct kvmi_vcpu_control_cr - KVMI_VCPU_CONTROL_CR
 * @cr: control register: 0, 3 or 4
 * @enable: 1: writes raise KVMI_VCPU_EVENT_CR, 0: they do not
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vcpu_control_cr {
	__u8 cr;
	__u8 enable;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vcpu_inject_exception - KVMI_VCPU_INJECT_EXCEPTION
 * @nr: vector, 0 to 31
 * @padding1: zero
 * @padding2: zero
 * @error_code: for vectors that have one
 * @address: CR2 of a #PF
 */
struct kvmi_vcpu_inject_exception {
	__u8 nr;
	__u8 padding1;
	__u16 padding2;
	__u32 error_code;
	__u64 address;
};

/**
 * struct kvmi_vcpu_get_xcr - KVMI_VCPU_GET_XCR
 * @xcr: extended control register: 0
 * @padding: zero
 */
struct kvmi_vcpu_get_xcr {
	__u8 xcr;
	__u8 padding[7];
};

/**
 * struct kvmi_vcpu_get_xcr_reply - reply data of KVMI_VCPU_GET_XCR
 * @value: of the register
 */
struct kvmi_vcpu_get_xcr_reply {
	__u64 value;
};

/**
 * struct kvmi_vcpu_get_xsave_reply - reply data of KVMI_VCPU_GET_XSAVE
 * @xsave: the XSAVE area, 4096 bytes, in the standard format
 */
struct kvmi_vcpu_get_xsave_reply {
	struct kvm_xsave xsave;
};

/**
 * struct kvmi_vcpu_set_xsave - KVMI_VCPU_SET_XSAVE
 * @xsave: the XSAVE area, 4096 bytes, in the standard format
 */
struct kvmi_vcpu_set_xsave {
	struct kvm_xsave xsave;
};

/**
 * struct kvmi_vcpu_get_mtrr_type - KVMI_VCPU_GET_MTRR_TYPE
 * @gpa: guest physical address, bytes
 */
struct kvmi_vcpu_get_mtrr_type {
	__u64 gpa;
};

/**
 * struct kvmi_vcpu_get_mtrr_type_reply - reply data of KVMI_VCPU_GET_MTRR_TYPE
 * @type: memory type as in the MTRRs: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB
 * @padding: zero
 */
struct kvmi_vcpu_get_mtrr_type_reply {
	__u8 type;
	__u8 padding[7];
};

/**
 * struct kvmi_vcpu_control_msr - KVMI_VCPU_CONTROL_MSR
 * @enable: 1: writes raise KVMI_VCPU_EVENT_MSR, 0: they do not
 * @padding1: zero
 * @padding2: zero
 * @msr: MSR index
 */
struct kvmi_vcpu_control_msr {
	__u8 enable;
	__u8 padding1;
	__u16 padding2;
	__u32 msr;
};

/**
 * struct kvmi_vcpu_event_arch - state of the vCPU at an event
 * @mode: operand size of the code segment in bytes: 2, 4 or 8
 * @padding: zero
 * @regs: general purpose registers, rip and rflags
 * @sregs: segment, descriptor table and control registers
 * @msrs: MSRs that most tools look at
 */
struct kvmi_vcpu_event_arch {
	__u8 mode;
	__u8 padding[7];
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct {
		__u64 sysenter_cs;
		__u64 sysenter_esp;
		__u64 sysenter_eip;
		__u64 efer;
		__u64 star;
		__u64 lstar;
		__u64 cstar;
		__u64 pat;
		__u64 shadow_gs;
	} msrs;
};

/**
 * struct kvmi_vcpu_event_breakpoint - payload of KVMI_VCPU_EVENT_BREAKPOINT
 * @gpa: guest physical address of the instruction, all ones if unmapped
 * @insn_len: length of the instruction, bytes
 * @padding: zero
 */
struct kvmi_vcpu_event_breakpoint {
	__u64 gpa;
	__u8 insn_len;
	__u8 padding[7];
};

/**
 * struct kvmi_vcpu_event_cr - payload of KVMI_VCPU_EVENT_CR
 * @cr: control register: 0, 3 or 4
 * @padding: zero
 * @old_value: what it is
 * @new_value: what the guest wants to write
 */
struct kvmi_vcpu_event_cr {
	__u8 cr;
	__u8 padding[7];
	__u64 old_value;
	__u64 new_value;
};

/**
 * struct kvmi_vcpu_event_cr_reply - reply data of KVMI_VCPU_EVENT_CR
 * @new_val: what is written
 */
struct kvmi_vcpu_event_cr_reply {
	__u64 new_val;
};

/**
 * struct kvmi_vcpu_event_trap - payload of KVMI_VCPU_EVENT_TRAP
 * @nr: vector of what was injected
 * @padding1: zero
 * @padding2: zero
 * @error_code: its error code, 0 if it has none
 * @address: CR2 if it is a #PF
 */
struct kvmi_vcpu_event_trap {
	__u8 nr;
	__u8 padding1;
	__u16 padding2;
	__u32 error_code;
	__u64 address;
};

/**
 * struct kvmi_vcpu_event_xsetbv - payload of KVMI_VCPU_EVENT_XSETBV
 * @xcr: extended control register: 0
 * @padding: zero
 * @old_value: what it was
 * @new_value: what the guest writes
 */
struct kvmi_vcpu_event_xsetbv {
	__u8 xcr;
	__u8 padding[7];
	__u64 old_value;
	__u64 new_value;
};

/* kvmi_vcpu_event_descriptor.descriptor */
#define KVMI_DESC_IDTR	1
#define KVMI_DESC_GDTR	2
#define KVMI_DESC_LDTR	3
#define KVMI_DESC_TR	4

/**
 * struct kvmi_vcpu_event_descriptor - payload of KVMI_VCPU_EVENT_DESCRIPTOR
 * @descriptor: KVMI_DESC_*
 * @write: 1: the guest loads the register, 0: it stores it
 * @padding: zero
 */
struct kvmi_vcpu_event_descriptor {
	__u8 descriptor;
	__u8 write;
	__u8 padding[6];
};

/**
 * struct kvmi_vcpu_event_msr - payload of KVMI_VCPU_EVENT_MSR
 * @msr: MSR index
 * @padding: zero
 * @old_value: what it is
 * @new_value: what the guest wants to write
 */
struct kvmi_vcpu_event_msr {
	__u32 msr;
	__u32 padding;
	__u64 old_value;
	__u64 new_value;
};

/**
 * struct kvmi_vcpu_event_msr_reply - reply data of KVMI_VCPU_EVENT_MSR
 * @new_val: what is written
 */
struct kvmi_vcpu_event_msr_reply {
	__u64 new_val;
};

#endif /* _UAPI_ASM_X86_KVMI_H */
