// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: where x86 raises events.
 */
#include <linux/kvmi_host.h>

#include "hyperv.h"
#include "mmu.h"
#include "regs.h"
#include "x86.h"
#include "xen.h"

#include "events.h"
#include "memory.h"
#include "trace.h"

/* Events are for what the tool looks at: L1, not the guests of L1. */
bool kvmi_wants(struct kvm_vcpu *vcpu, u8 event)
{
	return kvmi_is_in_use() && !is_guest_mode(vcpu) &&
	       kvmi_event_active(vcpu, event);
}

/**
 * kvmi_raise_insn - tell the tool what an instruction is about to do
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @ev: the event
 *
 * What is done in the end is what the tool was told: with KVMI_CONTINUE all of
 * the registers count that it has set, but where to go on.
 *
 * Return: like kvmi_raise_event()
 */
int kvmi_raise_insn(struct kvm_vcpu *vcpu, struct kvmi_event *ev)
{
	unsigned long rip = kvm_rip_read(vcpu);
	int r;

	r = kvmi_raise_event(vcpu, ev);
	if (r == KVMI_CONTINUE)
		kvm_rip_write(vcpu, rip);

	return r;
}

/**
 * kvmi_raise_write - tell the tool what an instruction is about to write
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @ev: the event; its reply is what is to be written
 * @r: out: what the exit handler is to return
 *
 * Return: true if the instruction must not be completed
 */
bool kvmi_raise_write(struct kvm_vcpu *vcpu, struct kvmi_event *ev, int *r)
{
	*r = kvmi_raise_insn(vcpu, ev);

	return *r <= 0;
}

/* The VMM lets the guest go on after all. */
static int kvmi_execute_again(struct kvm_vcpu *vcpu)
{
	return 1;
}

/**
 * kvmi_end_emulation - the instruction that is emulated must not be completed
 * @vcpu: the vCPU
 * @r: what an exit handler would return
 *
 * Nothing of the instruction has happened yet. A signal is left to
 * kvmi_handle_requests(), which waits on.
 *
 * Return: the status for the emulator
 */
int kvmi_end_emulation(struct kvm_vcpu *vcpu, int r)
{
	if (r)
		return X86EMUL_INTERCEPTED;

	vcpu->arch.complete_userspace_io = kvmi_execute_again;
	return X86EMUL_IO_NEEDED;
}

/**
 * kvmi_breakpoint - #BP was intercepted
 * @vcpu: the vCPU, with rip at the instruction
 * @insn_len: its length, bytes
 * @r: out: what the exit handler is to return
 *
 * The tool sees a breakpoint first. What it lets pass goes to whom it would
 * have gone without the tool: the VMM if it debugs the guest, else the guest.
 *
 * Return: false if it is for the VMM
 */
bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u8 insn_len, int *r)
{
	struct kvmi_vcpu_event_breakpoint payload = { .insn_len = insn_len };
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_BREAKPOINT,
		.payload = &payload,
		.payload_len = sizeof(payload),
	};

	if (kvmi_wants(vcpu, ev.id)) {
		payload.gpa = kvmi_gva_to_gpa(vcpu, kvm_get_linear_rip(vcpu));
		*r = kvmi_raise_event(vcpu, &ev);
		if (*r <= 0)
			return true;
		if (*r == KVMI_RETRY) {
			*r = 1;
			return true;
		}
	}

	if (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP)
		return false;

	kvm_queue_exception(vcpu, BP_VECTOR);
	*r = 1;
	return true;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_breakpoint);

static bool kvmi_is_event_request(struct kvm_vcpu *vcpu, bool op_64_bit)
{
	if (op_64_bit)
		return kvm_rdi_read_raw(vcpu) == KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT &&
		       !kvm_rsi_read_raw(vcpu);

	return kvm_ebx_read(vcpu) == KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT &&
	       !kvm_ecx_read(vcpu);
}

/* The number is in use by Xen and Hyper-V guests too. */
static bool kvmi_number_is_taken(struct kvm_vcpu *vcpu)
{
	return kvm_xen_hypercall_enabled(vcpu->kvm) ||
	       kvm_hv_hypercall_enabled(vcpu);
}

/**
 * __kvmi_hypercall - the guest made a hypercall
 * @vcpu: the vCPU
 * @r: out: what the exit handler is to return
 *
 * Return: false if it is none for introspection
 */
bool __kvmi_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	struct kvmi_event ev = { .id = KVMI_VCPU_EVENT_HYPERCALL };
	unsigned long nr, ret;
	bool op_64_bit = is_64_bit_hypercall(vcpu);

	nr = op_64_bit ? kvm_rax_read_raw(vcpu) : kvm_eax_read(vcpu);
	if (nr != KVM_HC_XEN_HVM_OP || is_guest_mode(vcpu) ||
	    !rcu_access_pointer(vcpu->introspection))
		return false;

	if (kvmi_is_event_request(vcpu, op_64_bit) && kvmi_wants(vcpu, ev.id)) {
		*r = kvmi_raise_insn(vcpu, &ev);
		if (*r <= 0)
			return true;

		ret = 0;
	} else {
		if (kvmi_number_is_taken(vcpu))
			return false;
		ret = -KVM_ENOSYS;
	}

	++vcpu->stat.hypercalls;
	kvm_rax_write_raw(vcpu, op_64_bit ? ret : (u32)ret);

	*r = kvm_skip_emulated_instruction(vcpu);
	return true;
}

/**
 * __kvmi_xsetbv - the guest is about to write an extended control register
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @index: which one
 * @val: what is written, which is legal
 * @r: out: what the exit handler is to return
 *
 * Return: true if the instruction must not be completed
 */
bool __kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 index, u64 val, int *r)
{
	struct kvmi_vcpu_event_xsetbv payload = {
		.xcr = index,
		.old_value = vcpu->arch.xcr0,
		.new_value = val,
	};
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_XSETBV,
		.payload = &payload,
		.payload_len = sizeof(payload),
	};

	if (payload.old_value == val || !kvmi_wants(vcpu, ev.id))
		return false;

	return kvmi_raise_write(vcpu, &ev, r);
}
