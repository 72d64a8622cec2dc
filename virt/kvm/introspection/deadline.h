/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: how long the guest waits for the tool.
 */
#ifndef __KVMI_DEADLINE_H
#define __KVMI_DEADLINE_H

#include "introspection.h"

int kvmi_set_deadline(struct kvm_introspection *kvmi,
		      const struct kvm_introspection_deadline *deadline);
long kvmi_time_left(struct kvmi_vcpu *kvi);
void kvmi_miss_deadline(struct kvmi_vcpu *kvi);
bool kvmi_is_late_reply(struct kvmi_vcpu *kvi, u32 seq);

#endif
