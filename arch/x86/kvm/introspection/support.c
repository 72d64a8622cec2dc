// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: what can be introspected on x86.
 */
#include <linux/kvmi_host.h>

/**
 * kvmi_arch_vm_supported - can this VM be introspected
 * @kvm: the VM; what is said holds for as long as kvm->lock is held
 *
 * Return: false if its state or memory is protected from the host, or meant
 * to look so
 */
bool kvmi_arch_vm_supported(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_DEFAULT_VM;
}

/**
 * kvmi_arch_features - for KVMI_GET_VERSION
 * @features: out; zeroed by the caller
 */
void kvmi_arch_features(struct kvmi_features *features)
{
	features->singlestep = 1;
}

/**
 * kvmi_arch_vcpu_ready - can the vCPU carry out commands
 * @vcpu: the vCPU
 *
 * Return: false for an application processor that was not started
 */
bool kvmi_arch_vcpu_ready(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->arch.mp_state) != KVM_MP_STATE_UNINITIALIZED;
}
