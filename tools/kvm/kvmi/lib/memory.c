// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: reading more than a page of guest memory, or by virtual address.
 *
 * A command reads within one page. Several are under way at a time, or the time
 * would go into waiting for each reply.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define IN_FLIGHT	16

struct page_read {
	struct kvmi_call call;
	struct kvmi_vm_read_physical req;
	bool *present;
};

static int start(struct kvmi_conn *conn, struct page_read *read, __u64 gpa, void *data,
		 size_t size)
{
	struct iovec iov[2] = {
		[1] = { .iov_base = &read->req, .iov_len = sizeof(read->req) },
	};

	read->req = (struct kvmi_vm_read_physical){ .gpa = gpa, .size = size };
	read->call = (struct kvmi_call){
		.id = KVMI_VM_READ_PHYSICAL,
		.reply = data,
		.reply_size = size,
	};

	return kvmi_call_send(conn, &read->call, iov, ARRAY_SIZE(iov));
}

static int finish(struct kvmi_conn *conn, struct page_read *read)
{
	int r = kvmi_call_wait(conn, &read->call, kvmi_now_ms() + conn->timeout);

	if (r)
		return r;
	if (read->call.err && read->call.err != -ENOENT)
		return kvmi_fail(conn, -read->call.err, KVMI_FAILURE_OTHER,
				 "cannot read guest memory at 0x%llx: %s",
				 read->req.gpa, strerror(-read->call.err));

	*read->present = !read->call.err;
	if (read->call.err)
		memset(read->call.reply, 0, read->req.size);

	return 0;
}

/**
 * kvmi_read_memory - read guest memory
 * @conn: the connection
 * @gpa: guest physical address
 * @data: where it goes; zeroes where the guest has no memory
 * @size: bytes to read
 * @present: out: for each page that the range touches, whether it is there
 *
 * Return: 0 or a negative errno
 */
int kvmi_read_memory(struct kvmi_conn *conn, __u64 gpa, void *data, size_t size,
		     bool *present)
{
	struct page_read reads[IN_FLIGHT];
	size_t sent = 0, done = 0;
	int r = 0;

	while (!r && (size || done < sent)) {
		struct page_read *read;

		if (size && sent - done < IN_FLIGHT) {
			size_t n = KVMI_GUEST_PAGE - gpa % KVMI_GUEST_PAGE;

			if (n > size)
				n = size;
			read = &reads[sent % IN_FLIGHT];
			read->present = &present[sent];
			r = start(conn, read, gpa, data, n);
			if (r)
				break;
			sent++;
			gpa += n;
			data = (char *)data + n;
			size -= n;
		} else {
			r = finish(conn, &reads[done++ % IN_FLIGHT]);
		}
	}

	for (; done < sent; done++)
		kvmi_call_forget(conn, &reads[done % IN_FLIGHT].call);

	return r;
}

/**
 * kvmi_read_virtual - read guest memory as a vCPU sees it
 * @conn: the connection
 * @vcpu: index of the vCPU
 * @gva: guest virtual address
 * @data: where it goes
 * @size: bytes to read
 *
 * Return: how many bytes there are before a page that is not mapped, or not
 * memory; or a negative errno
 */
int kvmi_read_virtual(struct kvmi_conn *conn, __u16 vcpu, __u64 gva, void *data, size_t size)
{
	size_t done, n;
	__u64 gpa;
	int r;

	for (done = 0; done < size; done += n) {
		n = KVMI_GUEST_PAGE - (gva + done) % KVMI_GUEST_PAGE;
		if (n > size - done)
			n = size - done;
		r = kvmi_translate_gva(conn, vcpu, gva + done, &gpa);
		if (!r && gpa == KVMI_UNMAPPED)
			break;
		if (!r)
			r = kvmi_read_physical(conn, gpa, (char *)data + done, n);
		if (r == -ENOENT)
			break;
		if (r)
			return r;
	}

	return done;
}
