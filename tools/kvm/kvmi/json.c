// SPDX-License-Identifier: GPL-2.0
/*
 * JSON output, one value a line.
 *
 * Addresses and registers are strings with hexadecimal digits: many readers
 * take numbers for doubles, which 64 bits do not fit into.
 */
#include <string.h>

#include "json.h"

/* How long a UTF-8 character is that begins with @c, 0: none does */
static size_t utf8_length(unsigned char c)
{
	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	return c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Bytes of the UTF-8 character at @s, 0: it is none. */
static size_t utf8(const unsigned char *s, size_t len)
{
	size_t i, n = utf8_length(*s);

	if (!n || n > len)
		return 0;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong, surrogates, beyond the last character */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
		return 0;

	return n;
}

static void escaped(FILE *file, const char *value, size_t len)
{
	const unsigned char *s = (const unsigned char *)value, *end = s + len;

	fputc('"', file);
	while (s < end) {
		size_t n = utf8(s, end - s);

		if (!n)
			fputs("\\ufffd", file);
		else if (*s == '"' || *s == '\\')
			fprintf(file, "\\%c", *s);
		else if (*s == '\n')
			fputs("\\n", file);
		else if (*s == '\t')
			fputs("\\t", file);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(file, "\\u%04x", *s);
		else
			fwrite(s, 1, n, file);
		s += n ? n : 1;
	}
	fputc('"', file);
}

static void begin_value(struct json *json, const char *key)
{
	if (!json->depth)
		return;
	if (json->filled[json->depth - 1])
		fputc(',', json->file);
	json->filled[json->depth - 1] = true;
	if (key && !json->array[json->depth - 1]) {
		escaped(json->file, key, strlen(key));
		fputc(':', json->file);
	}
}

static void open_value(struct json *json, const char *key, bool array)
{
	begin_value(json, key);
	fputc(array ? '[' : '{', json->file);
	json->array[json->depth] = array;
	json->filled[json->depth] = false;
	json->depth++;
}

void json_object(struct json *json, const char *key)
{
	open_value(json, key, false);
}

void json_array(struct json *json, const char *key)
{
	open_value(json, key, true);
}

void json_end(struct json *json)
{
	json->depth--;
	fputc(json->array[json->depth] ? ']' : '}', json->file);
	if (!json->depth) {
		fputc('\n', json->file);
		fflush(json->file);
	}
}

void json_text(struct json *json, const char *key, const char *value, size_t len)
{
	begin_value(json, key);
	escaped(json->file, value, len);
}

void json_string(struct json *json, const char *key, const char *value)
{
	json_text(json, key, value, strlen(value));
}

void json_number(struct json *json, const char *key, long long value)
{
	begin_value(json, key);
	fprintf(json->file, "%lld", value);
}

void json_double(struct json *json, const char *key, double value)
{
	begin_value(json, key);
	fprintf(json->file, "%.6f", value);
}

void json_hex(struct json *json, const char *key, __u64 value)
{
	begin_value(json, key);
	fprintf(json->file, "\"0x%llx\"", value);
}

void json_bytes(struct json *json, const char *key, const __u8 *bytes, size_t len)
{
	size_t i;

	begin_value(json, key);
	fputc('"', json->file);
	for (i = 0; i < len; i++)
		fprintf(json->file, "%02x", bytes[i]);
	fputc('"', json->file);
}

void json_bool(struct json *json, const char *key, bool value)
{
	begin_value(json, key);
	fputs(value ? "true" : "false", json->file);
}

void json_null(struct json *json, const char *key)
{
	begin_value(json, key);
	fputs("null", json->file);
}
