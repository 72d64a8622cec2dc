// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: what users type.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* 4096, 0x1000, 4K; false: it is no number, or does not fit */
bool parse_number(const char *s, __u64 *value)
{
	static const char units[] = "KMGT";
	int base = s[0] == '0' && tolower(s[1]) == 'x' ? 16 : 10;
	unsigned int shift = 0;
	const char *unit;
	char *end;

	/* strtoull() takes signs and spaces. */
	if (base == 16)
		s += 2;
	if (!isxdigit(*s))
		return false;

	errno = 0;
	*value = strtoull(s, &end, base);
	if (errno || end == s)
		return false;

	if (*end) {
		unit = strchr(units, toupper(*end));
		if (!unit || end[1])
			return false;
		shift = 10 * (unit - units + 1);
	}
	if (*value << shift >> shift != *value)
		return false;
	*value <<= shift;

	return true;
}

static int digit(char c)
{
	return isdigit(c) ? c - '0' : tolower(c) - 'a' + 10;
}

/* "de ad be ef", "deadbeef"; @len: in: room in @bytes, out: how many there are */
bool parse_hex_bytes(const char *s, __u8 *bytes, size_t *len)
{
	size_t n = 0;

	while (*s) {
		if (isspace(*s)) {
			s++;
			continue;
		}
		if (!isxdigit(s[0]) || !isxdigit(s[1]) || n == *len)
			return false;
		bytes[n++] = digit(s[0]) << 4 | digit(s[1]);
		s += 2;
	}
	*len = n;

	return n;
}
