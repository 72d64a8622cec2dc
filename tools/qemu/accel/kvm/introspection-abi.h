/*
 * The interface to KVM introspection: what <linux/kvm.h> has for it, until it
 * is part of linux-headers/.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_INTROSPECTION_ABI_H
#define ACCEL_KVM_INTROSPECTION_ABI_H

#include <linux/kvm.h>

#ifndef KVM_CAP_INTROSPECTION
/* Outside of KVM's sequence, to be numbered when merged. */
#define KVM_CAP_INTROSPECTION 900

struct kvm_introspection_hook {
    __s32 fd;
    __u32 padding;
    __u8 uuid[16];
};

struct kvm_introspection_deadline {
    __u32 timeout_ms;
    __u32 max_missed;
};

struct kvm_introspection_feature {
    __u32 allow;
    __s32 id;
};

#define KVM_INTROSPECTION_HOOK \
    _IOW(KVMIO, 0xc8, struct kvm_introspection_hook)
#define KVM_INTROSPECTION_UNHOOK \
    _IO(KVMIO, 0xc9)
#define KVM_INTROSPECTION_COMMAND \
    _IOW(KVMIO, 0xca, struct kvm_introspection_feature)
#define KVM_INTROSPECTION_EVENT \
    _IOW(KVMIO, 0xcb, struct kvm_introspection_feature)
#define KVM_INTROSPECTION_PREUNHOOK \
    _IO(KVMIO, 0xcc)
#define KVM_INTROSPECTION_DEADLINE \
    _IOW(KVMIO, 0xf6, struct kvm_introspection_deadline)
#endif

#endif
