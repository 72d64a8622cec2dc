// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: the socket.
 *
 * Neither side ever blocks in the socket code. The wait queue of the socket
 * tells when there is something to read or room to write; who has to wait
 * does so where it can also see everything else it must react to.
 *
 * Reading is the business of one task at a time. While vCPUs wait for a reply
 * one of them is woken for it, since what comes next is most likely that
 * reply, or commands for that vCPU: there is no point in waking the receiver
 * first. Without waiting vCPUs the receiver is woken. Whoever stops reading
 * for another reason than an empty socket wakes the next one
 * (kvmi_hand_over()).
 *
 * Writing never waits either: what the socket has no room for is kept and
 * written by the receiver later. Until then no more commands are read, so
 * that a tool that does not read cannot make KVM keep more than a message or
 * two for each vCPU and the replies to commands that were already queued.
 */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/unaligned.h>
#include <net/sock.h>

#include "deadline.h"
#include "dispatch.h"
#include "socket.h"

struct kvmi_backlog {
	struct list_head list;
	size_t len;
	size_t sent;
	u8 data[] __counted_by(len);
};

/**
 * kvmi_wake_reader - wake the task that is to read the socket
 * @kvmi: the connection
 *
 * May be called in any context.
 */
void kvmi_wake_reader(struct kvm_introspection *kvmi)
{
	struct kvmi_vcpu *kvi;
	unsigned long flags;

	spin_lock_irqsave(&kvmi->lock, flags);
	kvi = list_first_entry_or_null(&kvmi->waiting, struct kvmi_vcpu, waiting);
	wake_up_process(kvi ? kvi->task : kvmi->receiver);
	spin_unlock_irqrestore(&kvmi->lock, flags);
}

/* Called by the socket, with the lock of its wait queue held. */
static int kvmi_socket_wake(wait_queue_entry_t *wait, unsigned int mode,
			    int sync, void *key)
{
	struct kvm_introspection *kvmi;
	__poll_t events = key_to_poll(key);

	kvmi = container_of(wait, struct kvm_introspection, sock_wait);

	/* A change of the socket's state comes without a key. */
	if (!events || (events & ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND))) {
		set_bit(KVMI_RX_READY, &kvmi->flags);
		/* Who went to sleep before is woken, who goes now sees the bit. */
		smp_mb__after_atomic();
		kvmi_wake_reader(kvmi);
	}

	if (!events || (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) {
		set_bit(KVMI_TX_WRITABLE, &kvmi->flags);
		/* Pairs with kvmi_add_backlog(): one of the two wakes the receiver. */
		smp_mb__after_atomic();
		if (test_bit(KVMI_TX_BACKLOG, &kvmi->flags))
			wake_up_process(kvmi->receiver);
	}

	return 0;
}

/**
 * kvmi_socket_get - look up a socket for introspection
 * @fd: file descriptor of current
 *
 * Return: the socket, to be freed with sockfd_put(), or ERR_PTR(-EINVAL) if
 * @fd is not a stream socket
 */
struct socket *kvmi_socket_get(int fd)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return ERR_PTR(-EINVAL);

	/* AF_SMC moves wait queue entries between sockets, where we would lose ours. */
	if (sock->type != SOCK_STREAM || sock->sk->sk_family == AF_SMC) {
		sockfd_put(sock);
		return ERR_PTR(-EINVAL);
	}

	return sock;
}

/**
 * kvmi_socket_init - set up the socket side of a connection
 * @kvmi: the connection
 * @sock: from kvmi_socket_get(); owned by @kvmi if 0 is returned, until
 *	  kvmi_socket_close() or kvmi_socket_free()
 *
 * Return: 0 or -ENOMEM
 */
int kvmi_socket_init(struct kvm_introspection *kvmi, struct socket *sock)
{
	mutex_init(&kvmi->rx.lock);
	mutex_init(&kvmi->tx.lock);
	INIT_LIST_HEAD(&kvmi->tx.backlog);
	init_waitqueue_func_entry(&kvmi->sock_wait, kvmi_socket_wake);

	kvmi->rx.buf = kmalloc(KVMI_MAX_MESSAGE, GFP_KERNEL_ACCOUNT);
	if (!kvmi->rx.buf)
		return -ENOMEM;

	kvmi->sock = sock;
	return 0;
}

/* Wakeups come from now on. The receiver must exist. */
void kvmi_socket_watch(struct kvm_introspection *kvmi)
{
	add_wait_queue(sk_sleep(kvmi->sock->sk), &kvmi->sock_wait);

	/* What happened before went unseen. */
	set_bit(KVMI_RX_READY, &kvmi->flags);
	set_bit(KVMI_TX_WRITABLE, &kvmi->flags);
}

/* Both directions are shut down. What may still be unread is lost. */
bool kvmi_peer_is_gone(struct kvm_introspection *kvmi)
{
	struct socket *sock;
	bool gone = true;

	mutex_lock(&kvmi->tx.lock);
	sock = kvmi->sock;
	if (sock)
		gone = READ_ONCE(sock->ops)->poll(sock->file, sock, NULL) & EPOLLHUP;
	mutex_unlock(&kvmi->tx.lock);

	return gone;
}

/**
 * kvmi_socket_close - the connection is dead: let go of the socket
 * @kvmi: the connection
 *
 * Called by the receiver. Waits for the last reader (and the command that it
 * carries out) and the last writer; the next ones see that it is dead.
 *
 * The socket goes now, not with the last reference to @kvmi. There can be
 * unread messages in it that hold files; if one of them is the VM itself, the
 * VM would keep the socket and the socket the VM.
 */
void kvmi_socket_close(struct kvm_introspection *kvmi)
{
	struct socket *sock = kvmi->sock;

	kernel_sock_shutdown(sock, SHUT_RDWR);
	remove_wait_queue(sk_sleep(sock->sk), &kvmi->sock_wait);

	mutex_lock(&kvmi->rx.lock);
	mutex_lock(&kvmi->tx.lock);
	kvmi->sock = NULL;
	mutex_unlock(&kvmi->tx.lock);
	mutex_unlock(&kvmi->rx.lock);

	sockfd_put(sock);
}

void kvmi_socket_free(struct kvm_introspection *kvmi)
{
	struct kvmi_backlog *msg, *tmp;

	list_for_each_entry_safe(msg, tmp, &kvmi->tx.backlog, list)
		kfree(msg);
	kfree(kvmi->rx.buf);
	if (kvmi->sock)
		sockfd_put(kvmi->sock);
}

static bool kvmi_is_again(int r)
{
	return r == -EAGAIN || r == -EINTR || r == -ERESTARTSYS ||
	       r == -ERESTARTNOINTR || r == -ERESTARTNOHAND;
}

/* Write what fits; returns 0 and leaves the rest in msg->msg_iter. */
static int kvmi_write(struct kvm_introspection *kvmi, struct msghdr *msg)
{
	int r;

	msg->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;

	clear_bit(KVMI_TX_WRITABLE, &kvmi->flags);
	/* Room that is made from here on is not overlooked. */
	smp_mb__after_atomic();

	while (msg_data_left(msg)) {
		r = sock_sendmsg(kvmi->sock, msg);
		if (kvmi_is_again(r))
			break;
		if (r <= 0)
			return r ?: -EPIPE;
	}

	return 0;
}

static int kvmi_add_backlog(struct kvm_introspection *kvmi, struct msghdr *msg)
{
	size_t len = msg_data_left(msg);
	struct kvmi_backlog *rest;

	rest = kmalloc_flex(*rest, data, len, GFP_KERNEL_ACCOUNT);
	if (!rest)
		return -ENOMEM;

	rest->len = len;
	rest->sent = 0;
	if (!copy_from_iter_full(rest->data, len, &msg->msg_iter)) {
		kfree(rest);
		return -EFAULT;
	}

	list_add_tail(&rest->list, &kvmi->tx.backlog);
	set_bit(KVMI_TX_BACKLOG, &kvmi->flags);
	/* Pairs with kvmi_socket_wake(). */
	smp_mb__after_atomic();
	if (test_bit(KVMI_TX_WRITABLE, &kvmi->flags))
		wake_up_process(kvmi->receiver);

	return 0;
}

/**
 * kvmi_send_locked - write a message
 * @kvmi: the connection, with tx.lock held
 * @vec: the message, in pieces
 * @nr: number of pieces
 * @len: bytes in all of them
 *
 * Does not wait for room. A connection that cannot take a message is given
 * up: the tool would wait for it for ever.
 *
 * Return: 0 if the message was written or will be, else a negative errno
 */
int kvmi_send_locked(struct kvm_introspection *kvmi, struct kvec *vec,
		     size_t nr, size_t len)
{
	struct msghdr msg = {};
	int r = 0;

	lockdep_assert_held(&kvmi->tx.lock);

	if (kvmi_is_dead(kvmi))
		return -EPIPE;

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vec, nr, len);

	if (list_empty(&kvmi->tx.backlog))
		r = kvmi_write(kvmi, &msg);

	if (!r && msg_data_left(&msg))
		r = kvmi_add_backlog(kvmi, &msg);

	if (r)
		kvmi_disconnect(kvmi);

	return r;
}

/**
 * kvmi_send - write a message, see kvmi_send_locked()
 * @kvmi: the connection
 * @vec: the message, in pieces
 * @nr: number of pieces
 * @len: bytes in all of them
 *
 * Return: 0 if the message was written or will be, else a negative errno
 */
int kvmi_send(struct kvm_introspection *kvmi, struct kvec *vec, size_t nr,
	      size_t len)
{
	int r;

	mutex_lock(&kvmi->tx.lock);
	r = kvmi_send_locked(kvmi, vec, nr, len);
	mutex_unlock(&kvmi->tx.lock);

	return r;
}

/* For the receiver: it is time to call kvmi_flush(). */
bool kvmi_must_flush(struct kvm_introspection *kvmi)
{
	return test_bit(KVMI_TX_BACKLOG, &kvmi->flags) &&
	       test_bit(KVMI_TX_WRITABLE, &kvmi->flags);
}

/**
 * kvmi_flush - write what is in the backlog
 * @kvmi: the connection
 *
 * Called by the receiver. Reading goes on once the backlog is empty.
 */
void kvmi_flush(struct kvm_introspection *kvmi)
{
	struct kvmi_backlog *rest;
	struct msghdr msg = {};
	struct kvec vec;
	int r = 0;

	guard(mutex)(&kvmi->tx.lock);

	while (!kvmi_is_dead(kvmi)) {
		rest = list_first_entry_or_null(&kvmi->tx.backlog,
						struct kvmi_backlog, list);
		if (!rest) {
			clear_bit(KVMI_TX_BACKLOG, &kvmi->flags);
			/* The reader that is woken must find it clear. */
			smp_mb__after_atomic();
			kvmi_wake_reader(kvmi);
			break;
		}

		vec.iov_base = rest->data + rest->sent;
		vec.iov_len = rest->len - rest->sent;
		iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &vec, 1, vec.iov_len);

		r = kvmi_write(kvmi, &msg);
		if (r) {
			kvmi_disconnect(kvmi);
			break;
		}

		rest->sent = rest->len - msg_data_left(&msg);
		if (rest->sent < rest->len)
			break;

		list_del(&rest->list);
		kfree(rest);
	}
}

/* The next message that is complete in the buffer, or NULL. */
static struct kvmi_msg_hdr *kvmi_next_message(struct kvm_introspection *kvmi)
{
	struct kvmi_rx *rx = &kvmi->rx;
	struct kvmi_msg_hdr *hdr;
	size_t have = rx->end - rx->start;

	if (have >= sizeof(*hdr)) {
		hdr = (void *)(rx->buf + rx->start);
		if (get_unaligned(&hdr->size) > KVMI_MSG_SIZE) {
			kvmi_disconnect(kvmi);
			return NULL;
		}
		if (have >= sizeof(*hdr) + get_unaligned(&hdr->size) &&
		    IS_ALIGNED(rx->start, sizeof(u64)))
			return hdr;
	}

	/*
	 * Make room for the rest of the message, or, if it is complete but
	 * follows one of odd length, give its fields their alignment.
	 */
	if (rx->start) {
		memmove(rx->buf, rx->buf + rx->start, have);
		rx->start = 0;
		rx->end = have;
		return kvmi_next_message(kvmi);
	}

	return NULL;
}

/* Returns false if there is nothing to read for now. */
static bool kvmi_fill(struct kvm_introspection *kvmi)
{
	struct kvmi_rx *rx = &kvmi->rx;
	struct msghdr msg = {};
	struct kvec vec = {
		.iov_base = rx->buf + rx->end,
		.iov_len = KVMI_MAX_MESSAGE - rx->end,
	};
	int r;

	r = kernel_recvmsg(kvmi->sock, &msg, &vec, 1, vec.iov_len,
			   MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r > 0) {
		rx->end += r;
		return true;
	}

	if (!kvmi_is_again(r))
		kvmi_disconnect(kvmi);

	return false;
}

/* There may be more to read although the reader stops. */
static bool kvmi_may_have_more(struct kvm_introspection *kvmi)
{
	struct socket *sock = kvmi->sock;

	/* rx.lock is held: the socket is there. */
	return kvmi_next_message(kvmi) ||
	       (READ_ONCE(sock->ops)->poll(sock->file, sock, NULL) &
		(EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

/* Somebody else has to read on. */
static bool kvmi_must_stop_reading(struct kvm_introspection *kvmi, struct kvmi_vcpu *self)
{
	return test_bit(KVMI_TX_BACKLOG, &kvmi->flags) ||
	       (self && (signal_pending(current) || !kvmi_time_left(self)));
}

static void kvmi_receive(struct kvm_introspection *kvmi, struct kvmi_vcpu *self)
{
	struct kvmi_msg_hdr *hdr;

	clear_bit(KVMI_RX_READY, &kvmi->flags);
	/* What comes from here on is not overlooked. */
	smp_mb__after_atomic();

	while (!kvmi_is_dead(kvmi)) {
		hdr = kvmi_next_message(kvmi);
		if (!hdr) {
			if (kvmi_is_dead(kvmi) || !kvmi_fill(kvmi))
				return;
			continue;
		}

		kvmi->rx.start += sizeof(*hdr) + hdr->size;
		if (!kvmi_dispatch(kvmi, self, hdr)) {
			kvmi_disconnect(kvmi);
			return;
		}

		/* A vCPU reads until its own reply is there. */
		if (self && self->state == KVMI_EVENT_REPLIED) {
			if (kvmi_may_have_more(kvmi))
				break;
			return;
		}

		if (kvmi_must_stop_reading(kvmi, self))
			break;

		cond_resched();
	}

	set_bit(KVMI_RX_READY, &kvmi->flags);
}

/**
 * kvmi_try_receive - read the socket if there is something and nobody reads
 * @kvmi: the connection
 * @self: the vCPU of the calling thread, NULL for the receiver
 *
 * Carries out messages until there are no more, or until the reply for which
 * @self waits was among them. May be called while the task's state is not
 * TASK_RUNNING; then, if true is returned, it was made TASK_RUNNING.
 *
 * After true the caller must look again, or kvmi_hand_over(). After false it
 * can sleep: it will be woken.
 *
 * Return: true if the socket was read
 */
bool kvmi_try_receive(struct kvm_introspection *kvmi, struct kvmi_vcpu *self)
{
	if (!test_bit(KVMI_RX_READY, &kvmi->flags) ||
	    test_bit(KVMI_TX_BACKLOG, &kvmi->flags) ||
	    !mutex_trylock(&kvmi->rx.lock))
		return false;

	__set_current_state(TASK_RUNNING);
	kvmi_receive(kvmi, self);
	mutex_unlock(&kvmi->rx.lock);

	/*
	 * Who was woken and found rx.lock taken relies on the one who had it:
	 * unlock before KVMI_RX_READY is tested again.
	 */
	smp_mb();
	return true;
}

/**
 * kvmi_hand_over - let the next reader go on
 * @kvmi: the connection
 *
 * Called by a task that was woken for reading, or did read, and does not go
 * on doing it; it must have left kvm_introspection.waiting.
 */
void kvmi_hand_over(struct kvm_introspection *kvmi)
{
	if (test_bit(KVMI_RX_READY, &kvmi->flags))
		kvmi_wake_reader(kvmi);
}
