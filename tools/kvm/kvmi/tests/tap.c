// SPDX-License-Identifier: GPL-2.0
/*
 * TAP, and a checker for JSON.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static int number, failed;

bool ok(bool passed, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", passed ? "" : "not ", ++number);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	failed += !passed;

	return passed;
}

bool is_string(const char *got, const char *wanted, const char *name)
{
	if (ok(!strcmp(got, wanted), "%s", name))
		return true;
	printf("# got    '%s'\n# wanted '%s'\n", got, wanted);
	return false;
}

bool is_number(long long got, long long wanted, const char *name)
{
	if (ok(got == wanted, "%s", name))
		return true;
	printf("# got %lld, wanted %lld\n", got, wanted);
	return false;
}

int tap_end(void)
{
	printf("1..%d\n", number);
	if (failed)
		printf("# %d of %d failed\n", failed, number);
	return failed ? 1 : 0;
}

/* Each of these returns what follows, NULL if it is not what it should be. */
static const char *value(const char *s, int depth);

static const char *string(const char *s)
{
	if (*s++ != '"')
		return NULL;
	for (; *s != '"'; s++) {
		if ((unsigned char)*s < 0x20)
			return NULL;
		if (*s != '\\')
			continue;
		s++;
		if (*s == 'u') {
			int i;

			for (i = 0; i < 4; i++)
				if (!isxdigit((unsigned char)*++s))
					return NULL;
		} else if (!*s || !strchr("\"\\/bfnrt", *s)) {
			return NULL;
		}
	}
	return s + 1;
}

static const char *members(const char *s, char end, int depth)
{
	if (*s == end)
		return s + 1;
	for (;;) {
		if (end == '}') {
			s = string(s);
			if (!s || *s++ != ':')
				return NULL;
		}
		s = value(s, depth + 1);
		if (!s)
			return NULL;
		if (*s == end)
			return s + 1;
		if (*s++ != ',')
			return NULL;
	}
}

static const char *value(const char *s, int depth)
{
	char *end;

	if (depth > 20)
		return NULL;
	if (*s == '{')
		return members(s + 1, '}', depth);
	if (*s == '[')
		return members(s + 1, ']', depth);
	if (*s == '"')
		return string(s);
	if (!strncmp(s, "true", 4) || !strncmp(s, "null", 4))
		return s + 4;
	if (!strncmp(s, "false", 5))
		return s + 5;
	strtod(s, &end);
	return end > s ? end : NULL;
}

/* Is the text one JSON value, with @end behind it? */
bool is_json(const char *text, const char *end)
{
	const char *s = value(text, 0);

	return s && !strncmp(s, end, strlen(end));
}
