// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: what is said about the VMs.
 */
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "serve.h"

/* A VMM that was refused comes again and again: that is told as often, ms */
#define REFUSED_AGAIN	60000
#define REFUSED_MAX	64

/*
 * A line is lost rather than waited for: VMs are not to depend on who reads it,
 * nor on a terminal that was stopped.
 */
static bool may_print(void)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return poll(&pfd, 1, 0) > 0;
}

static __u64 hash(__u64 seed, const char *s)
{
	for (; *s; s++)
		seed = (seed ^ (__u8)*s) * 0x100000001b3;
	return seed;
}

/* Was this said not long ago? */
static bool is_known(const char *name, const char *text)
{
	static struct {
		__u64 hash;
		__s64 until;
	} known[REFUSED_MAX];
	static unsigned int next;
	__u64 what = hash(hash(0xcbf29ce484222325, name), text);
	__s64 time = time_ms();
	unsigned int i;

	for (i = 0; i < REFUSED_MAX; i++)
		if (known[i].hash == what && known[i].until > time)
			return true;
	next = (next + 1) % REFUSED_MAX;
	known[next].hash = what;
	known[next].until = time + REFUSED_AGAIN;
	return false;
}

/* What happened to a VM, for people or for machines */
void report(const struct serve *serve, const struct guest *guest, const char *event,
	    const char *fmt, ...)
{
	const struct hello *hello = &guest->greeting.hello;
	struct json *out = &serve->tool->out;
	char text[256], uuid[KVMI_UUID_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	if (!may_print() || (!strcmp(event, "refused") && is_known(guest->name, text)))
		return;

	if (!serve->tool->json) {
		printf("%s: %s\n", guest->name, text);
		fflush(stdout);
		return;
	}
	json_object(out, NULL);
	json_string(out, "event", event);
	json_string(out, "uuid", kvmi_uuid_text(hello->uuid, uuid));
	json_string(out, "name", hello->name);
	json_number(out, "pid", guest->pid);
	json_string(out, "text", text);
	json_end(out);
}
