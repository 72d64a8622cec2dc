/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: guest memory.
 */
#ifndef __KVMI_MEMORY_H
#define __KVMI_MEMORY_H

#include <linux/kvm_host.h>

int kvmi_read_guest(struct kvm *kvm, gpa_t gpa, void *data, unsigned int size);
int kvmi_write_guest(struct kvm *kvm, gpa_t gpa, const void *data,
		     unsigned int size);
gfn_t kvmi_max_gfn(struct kvm *kvm);

#endif
