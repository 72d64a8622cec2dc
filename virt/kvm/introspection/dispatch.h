/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: messages from the tool.
 */
#ifndef __KVMI_DISPATCH_H
#define __KVMI_DISPATCH_H

#include "introspection.h"

/**
 * struct kvmi_job - a command that waits for its vCPU's thread
 * @list: entry in kvmi_vcpu.jobs
 * @call: the command; its request is in @req
 * @run: the handler
 * @req: the request, zero-extended
 */
struct kvmi_job {
	struct list_head list;
	struct kvmi_call call;
	int (*run)(struct kvmi_call *call);
	u64 req[];
};

bool kvmi_dispatch(struct kvm_introspection *kvmi, struct kvmi_vcpu *self,
		   const struct kvmi_msg_hdr *hdr);
bool kvmi_is_command(u16 id);
void kvmi_allow_command(struct kvm_introspection *kvmi, s32 id, bool allow);
bool kvmi_is_always_allowed(u16 id);
void kvmi_run_job(struct kvmi_vcpu *kvi, struct kvmi_job *job);

#endif
