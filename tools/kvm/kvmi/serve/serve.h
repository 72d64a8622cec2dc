/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi serve: the tool that VMMs come to.
 *
 * One process, one poll(2). Each VM has one connection, which stays; each command
 * has one, for as long as it lives. Whole messages are passed on between the two,
 * so that neither end is left in the middle of one when the other is gone.
 */
#ifndef KVMI_SERVE_H
#define KVMI_SERVE_H

#include <nettle/hmac.h>
#include <nettle/sha1.h>

#include "lib/served.h"
#include "tool.h"

/* How long from the connection until KVM answers, ms: QEMU gives up at 10 s, too. */
#define HANDSHAKE_TIME	10000

/* How long a command may go on when the VMM wants us to leave, ms */
#define LEAVE_TIME	2000

/* How often, and how many times, to ask KVM for what QEMU is about to allow, ms */
#define ALLOW_RETRY	100
#define ALLOW_TRIES	30

/* No more is taken from one side while the other has so many bytes to read. */
#define QUEUE_LIMIT	65536

/* stream.c */

/**
 * struct stream - a connection
 * @fd: the socket, -1: none
 * @have: how much of the next message is in @msg
 * @hdr: how that begins
 * @msg: that message
 * @queue: what the other side was not ready to read
 * @queued: bytes in there
 * @sent: those of them that were sent
 * @room: size of @queue
 */
struct stream {
	int fd;
	size_t have;
	union {
		struct kvmi_msg_hdr hdr;
		__u8 msg[sizeof(struct kvmi_msg_hdr) + KVMI_MSG_SIZE];
	};
	__u8 *queue;
	size_t queued;
	size_t sent;
	size_t room;
};

void stream_init(struct stream *stream, int fd);
void stream_close(struct stream *stream);
int stream_read(struct stream *stream, size_t size);
int stream_read_message(struct stream *stream);
bool stream_send(struct stream *stream, const void *data, size_t size);
bool stream_flush(struct stream *stream);
bool stream_is_full(const struct stream *stream);

/* hello.c: QEMU's side speaks first */

/* What is known of the hello: what it has beyond this is skipped. */
struct hello {
	__u32 size;
	__u8 uuid[16];
	__u8 padding[4];
	__s64 start_time;
	char name[64];
	__u64 max_gpa;
	__u32 auth;
	__u8 padding2[4];
	__u8 challenge[32];
};

#define HELLO_MIN	offsetof(struct hello, name)
#define HELLO_MAX	65536

/* In hello.auth: what QEMU accepts */
#define AUTH_SHA1	1
#define AUTH_HMAC	2

struct hello_reply {
	__u32 size;
	__u8 cookie[20];
	__u8 hmac[32];
};

#define REPLY_SHORT	offsetof(struct hello_reply, hmac)

/**
 * struct key - what proves to QEMU that we are the tool
 * @known: there is one
 * @hmac_only: it is not to be proved by its hash, which can be replayed
 * @cookie: SHA-1 of it
 * @hmac: with the key set
 */
struct key {
	bool known;
	bool hmac_only;
	__u8 cookie[SHA1_DIGEST_SIZE];
	struct hmac_sha256_ctx hmac;
};

/**
 * struct greeting - a hello that comes in
 * @got: bytes of it
 * @hello: the first of them
 * @hmac: of all of them
 */
struct greeting {
	size_t got;
	struct hello hello;
	struct hmac_sha256_ctx hmac;
};

int key_load(struct tool *tool, const char *path, struct key *key);
void greeting_begin(struct greeting *greeting, const struct key *key);
int greeting_read(struct greeting *greeting, int fd, char *why, size_t size);
bool greeting_has_challenge(const struct greeting *greeting);
size_t greeting_answer(const struct greeting *greeting, const struct key *key,
		       struct hello_reply *reply);

/* left.c: what a command has switched on and not off again */
struct left {
	void *tree;
	size_t nr;
};

void left_note(struct left *left, const struct kvmi_msg_hdr *hdr, const __u8 *data);
void left_note_reply(struct left *left, __u32 vcpu);
void left_forget(struct left *left);

/* guest.c */
enum guest_state {
	GUEST_HELLO,	/* what its VMM says to us */
	GUEST_VERSION,	/* is KVM there? */
	GUEST_ALLOW,	/* may the VMM tell us to leave? */
	GUEST_READY,
	GUEST_LEAVING,	/* it did: when the command is done */
	GUEST_GONE,	/* to be freed */
};

/* The event that a vCPU waits with */
struct waiting {
	__u32 seq;	/* 0: it does not */
	__u16 event;
	__u64 value;	/* that the guest writes, if the reply has data */
};

/**
 * struct guest - a VM whose VMM has come
 * @next: in serve.guests
 * @id: our number for it
 * @pid: its VMM, 0: not known
 * @state: where it stands
 * @deadline: until when it is to have gone on, as kvmi_now_ms() tells; 0: none
 * @retry: when to ask KVM again, the same
 * @tries: how often that was done
 * @name: for messages
 * @greeting: its hello
 * @stream: to QEMU, and then to KVM
 * @seq: number of the last command
 * @unhook: KVM tells us when the VMM wants us to leave
 * @waiting: for each vCPU
 * @nr_waiting: size of that
 * @left: what the command has switched on
 * @client: the command, NULL: none
 */
struct guest {
	struct guest *next;
	__u32 id;
	pid_t pid;
	enum guest_state state;
	__s64 deadline;
	__s64 retry;
	unsigned int tries;
	char name[192];
	struct greeting greeting;
	struct stream stream;
	__u32 seq;
	bool unhook;
	struct waiting *waiting;
	unsigned int nr_waiting;
	struct left left;
	struct client *client;
};

/**
 * struct client - a command, or who asks which VMs there are
 * @next: in serve.clients
 * @pid: of the process
 * @stream: to it
 * @guest: whose connection it uses, NULL: none yet
 * @deadline: for its request, as kvmi_now_ms() tells
 * @gone: to be freed
 */
struct client {
	struct client *next;
	pid_t pid;
	struct stream stream;
	struct guest *guest;
	__s64 deadline;
	bool gone;
};

/**
 * struct serve - what is served
 * @tool: how it is wanted
 * @key: see there
 * @guests: the VMs
 * @clients: the commands
 * @last_id: of a VM
 * @command: is run for each VM, NULL: none
 */
struct serve {
	struct tool *tool;
	struct key key;
	struct guest *guests;
	struct client *clients;
	__u32 last_id;
	char **command;
};

struct guest *guest_new(struct serve *serve, int fd, pid_t pid);
void guest_free(struct guest *guest);
void guest_readable(struct serve *serve, struct guest *guest);
void guest_writable(struct serve *serve, struct guest *guest);
void guest_tick(struct serve *serve, struct guest *guest, __s64 time);
__s64 guest_wakes(const struct guest *guest);
void guest_take(struct serve *serve, struct guest *guest, const struct kvmi_msg_hdr *hdr);
void guest_leave(struct guest *guest);
void guest_release(struct serve *serve, struct guest *guest);

/* client.c */
struct client *client_new(struct serve *serve, int fd, pid_t pid);
void client_free(struct client *client);
void client_readable(struct serve *serve, struct client *client);
void client_end(struct serve *serve, struct client *client);

/* listen.c */
int listen_at(struct tool *tool, const char *where, mode_t mask);
void stop_listening(const char *where, int sock);
bool peer_is_welcome(int sock, pid_t *pid, char *why, size_t size);

/* runner.c */
void run_for_guest(struct serve *serve, struct guest *guest);

/* report.c */
void report(const struct serve *serve, const struct guest *guest, const char *event,
	    const char *fmt, ...) __printf(4, 5);

/* serve.c */
__s64 time_ms(void);

#endif
