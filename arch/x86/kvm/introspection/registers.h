/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: registers of an x86 vCPU.
 */
#ifndef __KVM_X86_INTROSPECTION_REGISTERS_H
#define __KVM_X86_INTROSPECTION_REGISTERS_H

#include <linux/kvmi_host.h>

u8 kvmi_get_registers(struct kvm_vcpu *vcpu, struct kvm_regs *regs,
		      struct kvm_sregs *sregs);

#endif
