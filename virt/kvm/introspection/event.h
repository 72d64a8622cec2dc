/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: events.
 */
#ifndef __KVMI_EVENT_H
#define __KVMI_EVENT_H

#include "introspection.h"

bool kvmi_is_vm_event(u16 id);
bool kvmi_is_vcpu_event(u16 id);
bool kvmi_needs_enabling(u16 id);

int kvmi_send_unhook(struct kvm_introspection *kvmi);
int kvmi_raise_at_boundary(struct kvmi_vcpu *kvi, const struct kvmi_event *ev);
int kvmi_resume_event(struct kvmi_vcpu *kvi);
bool kvmi_take_event_reply(struct kvm_introspection *kvmi, const void *data,
			   size_t size);

#endif
