// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: what QEMU and a tool say to each other before KVM takes over, see
 * Documentation/virt/kvm/kvmi-qemu.rst.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve.h"

#define KEY_MAX	65536

static_assert(sizeof(struct hello) == 144, "as on the wire");
static_assert(sizeof(struct hello_reply) == 56, "as on the wire");
static_assert(REPLY_SHORT == 24, "as on the wire");

/*
 * All bytes of the file count, a newline at its end too: it is the file that
 * QEMU's secret object is given. Returns 0, or the exit code after having said why.
 */
int key_load(struct tool *tool, const char *path, struct key *key)
{
	__u8 bytes[KEY_MAX + 1];
	struct sha1_ctx sha1;
	struct stat st;
	ssize_t n;
	int fd;

	/* What it waits for is the disk, or the writer of a pipe. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail(tool, STATUS_USAGE, "cannot open the key %s: %s", path,
			    strerror(errno));
	n = read(fd, bytes, sizeof(bytes));
	close(fd);
	if (n < 0)
		return fail(tool, STATUS_USAGE, "cannot read the key %s: %s", path,
			    strerror(errno));
	if (!n || n > KEY_MAX)
		return fail(tool, STATUS_USAGE, "the key %s is %s", path,
			    n ? "too long" : "empty");
	/* The group may well be QEMU's. */
	if (st.st_mode & 0007)
		note("everybody may use the key %s: chmod o= it", path);

	sha1_init(&sha1);
	sha1_update(&sha1, n, bytes);
	sha1_digest(&sha1, sizeof(key->cookie), key->cookie);
	hmac_sha256_set_key(&key->hmac, n, bytes);
	explicit_bzero(bytes, sizeof(bytes));
	key->known = true;
	return 0;
}

void greeting_begin(struct greeting *greeting, const struct key *key)
{
	memset(greeting, 0, sizeof(*greeting));
	greeting->hmac = key->hmac;
}

static size_t wanted(const struct greeting *greeting)
{
	const size_t first = sizeof(greeting->hello.size);

	return greeting->got < first ? first : greeting->hello.size;
}

/* It is for people: no surprises for their terminals. */
static void clean_name(char *name, size_t size)
{
	size_t i;

	name[size - 1] = '\0';
	for (i = 0; name[i]; i++)
		if ((__u8)name[i] < ' ' || name[i] == 0x7f)
			name[i] = '?';
}

/*
 * Read what there is of the hello, and not a byte beyond it: what follows is
 * KVM's. 1: it is complete, 0: not yet, -1: @why it is none.
 */
int greeting_read(struct greeting *greeting, int fd, char *why, size_t size)
{
	struct hello *hello = &greeting->hello;
	__u8 bytes[1024];

	while (greeting->got < wanted(greeting)) {
		size_t n = wanted(greeting) - greeting->got;
		ssize_t got;

		got = recv(fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes), MSG_DONTWAIT);
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			snprintf(why, size, "it hung up after %zu bytes of its hello",
				 greeting->got);
			return -1;
		}

		hmac_sha256_update(&greeting->hmac, got, bytes);
		if (greeting->got < sizeof(*hello)) {
			n = sizeof(*hello) - greeting->got;
			memcpy((__u8 *)hello + greeting->got, bytes,
			       n < (size_t)got ? n : (size_t)got);
		}
		greeting->got += got;
		if (greeting->got >= sizeof(hello->size) &&
		    (hello->size < HELLO_MIN || hello->size > HELLO_MAX)) {
			snprintf(why, size, "it sent no hello: that has %zu to %d bytes, not %u",
				 HELLO_MIN, HELLO_MAX, hello->size);
			return -1;
		}
	}

	clean_name(hello->name, sizeof(hello->name));
	return 1;
}

/* Does it want to hear the HMAC? */
bool greeting_has_challenge(const struct greeting *greeting)
{
	return greeting->hello.size >= sizeof(struct hello) && greeting->hello.auth & AUTH_HMAC;
}

/*
 * Returns the bytes of @reply. One without any proof is what a VMM without key
 * takes: it cannot be told from an older one.
 */
size_t greeting_answer(const struct greeting *greeting, const struct key *key,
		       struct hello_reply *reply)
{
	struct hmac_sha256_ctx hmac = greeting->hmac;

	memset(reply, 0, sizeof(*reply));
	reply->size = REPLY_SHORT;
	if (key->known && greeting_has_challenge(greeting)) {
		hmac_sha256_digest(&hmac, sizeof(reply->hmac), reply->hmac);
		reply->size = sizeof(*reply);
	} else if (key->known && !key->hmac_only) {
		memcpy(reply->cookie, key->cookie, sizeof(reply->cookie));
	}
	return reply->size;
}
