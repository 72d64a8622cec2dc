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

#endif /* _UAPI_ASM_X86_KVMI_H */
