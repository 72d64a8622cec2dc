/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: how an x86 vCPU sees memory.
 */
#ifndef __KVM_X86_INTROSPECTION_MEMORY_H
#define __KVM_X86_INTROSPECTION_MEMORY_H

#include <linux/kvmi_host.h>

gpa_t kvmi_gva_to_gpa(struct kvm_vcpu *vcpu, gva_t gva);

#endif
