/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: the socket.
 */
#ifndef __KVMI_SOCKET_H
#define __KVMI_SOCKET_H

#include <linux/uio.h>

#include "introspection.h"

struct socket *kvmi_socket_get(int fd);
int kvmi_socket_init(struct kvm_introspection *kvmi, struct socket *sock);
void kvmi_socket_watch(struct kvm_introspection *kvmi);
bool kvmi_peer_is_gone(struct kvm_introspection *kvmi);
void kvmi_socket_close(struct kvm_introspection *kvmi);
void kvmi_socket_free(struct kvm_introspection *kvmi);

/* Writing */
int kvmi_send(struct kvm_introspection *kvmi, struct kvec *vec, size_t nr,
	      size_t len);
int kvmi_send_locked(struct kvm_introspection *kvmi, struct kvec *vec,
		     size_t nr, size_t len);
bool kvmi_must_flush(struct kvm_introspection *kvmi);
void kvmi_flush(struct kvm_introspection *kvmi);

/* Reading */
bool kvmi_try_receive(struct kvm_introspection *kvmi, struct kvmi_vcpu *self);
void kvmi_wake_reader(struct kvm_introspection *kvmi);
void kvmi_hand_over(struct kvm_introspection *kvmi);

#endif
