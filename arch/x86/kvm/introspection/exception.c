// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: exceptions that the tool injects.
 *
 * An exception that the tool wants is queued when the vCPU is about to enter the
 * guest, unless something else is to be delivered then. The request that stays
 * set makes KVM leave again once it has prepared the entry; what is prepared is
 * what the tool is told, and what the guest gets first.
 */
#include <linux/kvmi_host.h>

#include "regs.h"
#include "x86.h"

#include "exception.h"
#include "intercept.h"

/* Not an exception: NMI, and what the architecture or KVM reserves. */
#define KVMI_VECTORS	(GENMASK(19, 0) & ~(BIT(NMI_VECTOR) | BIT(9) | BIT(15)))

/* kvmi_vcpu_event_trap.nr if nothing came of it */
#define KVMI_NO_VECTOR	0xff

/* KVMI_VCPU_INJECT_EXCEPTION */
int kvmi_arch_vcpu_inject_exception(struct kvmi_call *call)
{
	const struct kvmi_vcpu_inject_exception *req = call->req;
	struct kvm_vcpu *vcpu = call->vcpu;
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;

	if (!kvmi_event_allowed(call->kvmi, KVMI_VCPU_EVENT_TRAP))
		return -KVM_EPERM;
	if (req->padding1 || req->padding2 || req->nr > 31 ||
	    !(KVMI_VECTORS & BIT(req->nr)))
		return -KVM_EINVAL;
	/* It waits for INIT or SIPI, and forgets all exceptions then. */
	if (vcpu->arch.mp_state != KVM_MP_STATE_RUNNABLE &&
	    vcpu->arch.mp_state != KVM_MP_STATE_HALTED)
		return -KVM_EAGAIN;
	if (arch->inject != KVMI_INJECT_NONE || is_guest_mode(vcpu) ||
	    kvmi_intercepts(vcpu, KVMI_INTERCEPT_STEP))
		return -KVM_EBUSY;

	memset(&arch->trap, 0, sizeof(arch->trap));
	arch->trap.nr = req->nr;
	arch->trap.error_code = req->error_code;
	arch->trap.address = req->address;
	arch->inject = KVMI_INJECT_ASKED;
	kvmi_request_work(vcpu);

	return 0;
}

static void kvmi_queue_exception(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu_event_trap *trap = &vcpu->arch.kvmi.trap;
	struct x86_exception fault = {
		.vector = PF_VECTOR,
		.error_code_valid = true,
		.error_code = trap->error_code,
		.address = trap->address,
	};

	switch (trap->nr) {
	case PF_VECTOR:
		kvm_inject_page_fault(vcpu, &fault, false);
		break;
	case BP_VECTOR:
	case OF_VECTOR:
		/* As if by INT3 or INTO. */
		vcpu->arch.event_exit_inst_len = 1;
		fallthrough;
	default:
		if (x86_exception_has_error_code(trap->nr))
			kvm_queue_exception_e(vcpu, trap->nr, trap->error_code);
		else
			kvm_queue_exception(vcpu, trap->nr);
	}
}

/**
 * kvmi_queue_injection - the vCPU is about to enter the guest
 * @vcpu: the vCPU of the calling thread
 */
void kvmi_queue_injection(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.kvmi.inject != KVMI_INJECT_ASKED)
		return;

	/* Only the VMM can have switched to L2 meanwhile. */
	if (!kvm_is_exception_pending(vcpu) &&
	    !kvm_event_needs_reinjection(vcpu) && !is_guest_mode(vcpu))
		kvmi_queue_exception(vcpu);

	kvm_make_request(KVM_REQ_EVENT, vcpu);
	vcpu->arch.kvmi.inject = KVMI_INJECT_QUEUED;
}

/* What the guest is going to get. */
static void kvmi_get_injected(struct kvm_vcpu *vcpu,
			      struct kvmi_vcpu_event_trap *trap)
{
	const struct kvm_queued_exception *ex = &vcpu->arch.exception;

	memset(trap, 0, sizeof(*trap));
	if (ex->injected) {
		trap->nr = ex->vector;
		if (ex->has_error_code)
			trap->error_code = ex->error_code;
		if (ex->vector == PF_VECTOR)
			trap->address = vcpu->arch.cr2;
	} else if (vcpu->arch.nmi_injected) {
		trap->nr = NMI_VECTOR;
	} else if (vcpu->arch.interrupt.injected) {
		trap->nr = vcpu->arch.interrupt.nr;
	} else {
		trap->nr = KVMI_NO_VECTOR;
	}
}

/**
 * kvmi_arch_is_injecting - is a trap event due before any other
 * @vcpu: the vCPU of the calling thread
 *
 * Return: true from the command until what is injected was looked at
 */
bool kvmi_arch_is_injecting(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.kvmi.inject != KVMI_INJECT_NONE;
}

/**
 * kvmi_trap_event - is the tool to be told what is injected
 * @vcpu: the vCPU of the calling thread
 * @ev: out: the event
 *
 * Return: true if @ev was set
 */
bool kvmi_trap_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev)
{
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;

	if (arch->inject != KVMI_INJECT_QUEUED || kvm_is_exception_pending(vcpu))
		return false;

	kvmi_get_injected(vcpu, &arch->trap);
	arch->inject = KVMI_INJECT_NONE;

	ev->id = KVMI_VCPU_EVENT_TRAP;
	ev->payload = &arch->trap;
	ev->payload_len = sizeof(arch->trap);
	return true;
}
