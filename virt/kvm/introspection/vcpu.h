/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: vCPUs and the work that their threads do for the tool.
 */
#ifndef __KVMI_VCPU_H
#define __KVMI_VCPU_H

#include "introspection.h"

struct kvmi_job;

struct kvmi_vcpu *kvmi_alloc_vcpu(struct kvm_introspection *kvmi,
				  struct kvm_vcpu *vcpu);
void kvmi_drop_jobs(struct kvmi_vcpu *kvi);
void kvmi_free_vcpu(struct kvmi_vcpu *kvi);
struct kvmi_vcpu *kvmi_find_vcpu(struct kvm_introspection *kvmi, u16 index);

bool kvmi_add_job(struct kvmi_vcpu *kvi, struct kvmi_job *job);
void kvmi_run_next_job(struct kvmi_vcpu *kvi);
bool kvmi_run_jobs(struct kvmi_vcpu *kvi);
bool kvmi_has_work(struct kvmi_vcpu *kvi);
int kvmi_pause(struct kvmi_vcpu *kvi, bool wait);
void kvmi_notify_vcpu(struct kvmi_vcpu *kvi);
void kvmi_request_self(struct kvmi_vcpu *kvi);

#endif
