// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: failures, for people.
 */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

/* Remember a failure; returns -@err for the caller to return. */
int kvmi_fail(struct kvmi_conn *conn, int err, enum kvmi_failure failure, const char *fmt, ...)
{
	va_list ap;

	conn->error.failure = failure;
	va_start(ap, fmt);
	vsnprintf(conn->error.text, sizeof(conn->error.text), fmt, ap);
	va_end(ap);

	return -err;
}

/**
 * kvmi_strerror - say what went wrong
 * @conn: the connection, or NULL if kvmi_new() failed
 *
 * Return: a sentence without full stop about the last failure
 */
const char *kvmi_strerror(const struct kvmi_conn *conn)
{
	return conn ? conn->error.text : "out of memory";
}

/**
 * kvmi_failure - say what kind of failure it was
 * @conn: the connection
 *
 * Return: the kind of the last failure
 */
enum kvmi_failure kvmi_failure(const struct kvmi_conn *conn)
{
	return conn ? conn->error.failure : KVMI_FAILURE_OTHER;
}
