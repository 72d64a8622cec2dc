/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: exceptions that the tool injects.
 */
#ifndef __KVM_X86_INTROSPECTION_EXCEPTION_H
#define __KVM_X86_INTROSPECTION_EXCEPTION_H

#include <linux/kvmi_host.h>

void kvmi_queue_injection(struct kvm_vcpu *vcpu);
bool kvmi_trap_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev);

#endif
