/* JSON files in config/: see json_file.h. The main name is never absent while there is an old file: the old one gets a
 * second name before the new one takes its place. An error leaves the old file and is the caller's to repeat. */
#include "json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "fault/fault.h"
#include "file_layer.h"

enum { PATH_SIZE = 4096, FILE_SIZE_MAX = 256 << 20 };

static int make_path(char path[PATH_SIZE], const char *folder, const char *name, const char *suffix)
{
    int size = snprintf(path, PATH_SIZE, "%s/%s%s", folder, name, suffix);
    return size < 0 || size >= PATH_SIZE ? -ENAMETOOLONG : 0;
}

struct json_file_stamp json_file_stamp(const char *data, size_t size)
{
    return (struct json_file_stamp){.size = size, .crc32 = crc32_gzip_refl(0, (const uint8_t *)data, size)};
}

int json_file_bytes(const char *path, char **ret_data, struct json_file_stamp *ret_stamp)
{
    PN_CLOSE int fd = file_layer_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size == 0)
        return -ENOENT;
    if (st.st_size > FILE_SIZE_MAX)
        return -EFBIG;
    PN_FREE char *data = malloc((size_t)st.st_size + 1);
    if (!data)
        return -ENOMEM;
    ssize_t n = file_layer_pread(fd, data, (size_t)st.st_size, 0);
    if (n != st.st_size)
        return n < 0 ? (int)n : -EIO;
    data[n] = 0;
    *ret_stamp = json_file_stamp(data, (size_t)n);
    ret_stamp->changed_ms = st.st_mtim.tv_sec * 1000ll + st.st_mtim.tv_nsec / 1000000;
    *ret_data = TAKE_PTR(data);
    return 0;
}

static int read_one(const char *path, json_t **ret_json, struct json_file_stamp *ret_stamp)
{
    PN_FREE char *data = NULL;
    int r = json_file_bytes(path, &data, ret_stamp);
    if (r < 0)
        return r;
    const char *error;
    *ret_json = json_body_parse_file((struct bytes){(const uint8_t *)data, ret_stamp->size}, &error);
    if (!json_is_object(*ret_json)) {
        json_decref(*ret_json);
        *ret_json = NULL;
        return -EBADMSG;
    }
    return 0;
}

int json_file_read(const char *folder, const char *name, json_t **ret_json, struct json_file_stamp *ret_stamp)
{
    char path[PATH_SIZE];
    int r = make_path(path, folder, name, "");
    if (r < 0)
        return r;
    r = read_one(path, ret_json, ret_stamp);
    if (r != -ENOENT && r != -EBADMSG)
        return r;
    int bak = make_path(path, folder, name, ".bak");
    if (bak == 0)
        bak = read_one(path, ret_json, ret_stamp);
    if (bak == 0)
        ret_stamp->is_bak = true;
    return bak == -ENOENT ? r : bak;
}

static int write_temp(const char *path, const char *data, size_t size)
{
    PN_CLOSE int fd = file_layer_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return fd;
    int r = file_layer_pwrite(fd, data, size, 0);
    return r < 0 ? r : file_layer_fdatasync(fd);
}

static int keep_old(const char *path, const char *bak, const char *bak_temp)
{
    int r = file_layer_unlink(bak_temp);
    if (r < 0 && r != -ENOENT)
        return r;
    r = file_layer_link(path, bak_temp);
    if (r < 0)
        return r == -ENOENT ? 0 : r; /* the first one has no predecessor */
    return file_layer_rename(bak_temp, bak);
}

int json_file_write(const char *folder, const char *name, const char *data, size_t size)
{
    char path[PATH_SIZE], temp[PATH_SIZE], bak[PATH_SIZE], bak_temp[PATH_SIZE];
    int r = make_path(path, folder, name, "");
    if (r == 0)
        r = make_path(temp, folder, name, ".tmp");
    if (r == 0)
        r = make_path(bak, folder, name, ".bak");
    if (r == 0)
        r = make_path(bak_temp, folder, name, ".bak.tmp");
    if (r == 0)
        r = write_temp(temp, data, size);
    if (r < 0)
        return r;
    FAULT_POINT(STORE_METADATA_FILE);
    r = keep_old(path, bak, bak_temp);
    if (r < 0)
        return r;
    r = file_layer_rename(temp, path);
    return r < 0 ? r : file_layer_sync_folder(folder);
}

void json_file_indent(struct text *text, unsigned depth)
{
    static const char tabs[] = "\n\t\t\t\t\t\t\t\t";
    if (depth > sizeof tabs - 2) { /* nothing of ours is as deep */
        text_add_bytes(text, (struct bytes){(const uint8_t *)tabs, sizeof tabs - 1});
        return;
    }
    text_add_bytes(text, (struct bytes){(const uint8_t *)tabs, depth + 1});
}

void json_file_int(struct text *text, int64_t value)
{
    char digits[24], *p = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--p = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--p = '-';
    text_add_bytes(text, (struct bytes){(const uint8_t *)p, (size_t)(digits + sizeof digits - p)});
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_object(struct text *text, json_t *object, unsigned depth)
{
    size_t count = json_object_size(object), used = 0;
    PN_FREE const char **keys = calloc(count + 1, sizeof *keys);
    if (!keys)
        abort();
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) keys[used++] = key;
    qsort(keys, count, sizeof *keys, by_text);
    text_add_bytes(text, bytes_of("{"));
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            text_add_bytes(text, bytes_of(","));
        json_file_indent(text, depth + 1);
        text_add_json_string(text, bytes_of(keys[i]));
        text_add_bytes(text, bytes_of(":"));
        json_file_print(text, json_object_get(object, keys[i]), depth + 1);
    }
    if (count)
        json_file_indent(text, depth);
    text_add_bytes(text, bytes_of("}"));
}

void json_file_print(struct text *text, json_t *value, unsigned depth)
{
    if (json_is_object(value)) {
        print_object(text, value, depth);
    } else if (json_is_array(value)) {
        text_add_bytes(text, bytes_of("["));
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0)
                text_add_bytes(text, bytes_of(","));
            json_file_print(text, json_array_get(value, i), depth);
        }
        text_add_bytes(text, bytes_of("]"));
    } else if (json_is_string(value)) {
        text_add_json_string(text,
                             (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)});
    } else if (json_is_integer(value)) {
        json_file_int(text, json_integer_value(value));
    } else {
        PN_FREE char *scalar = json_dumps(value, JSON_ENCODE_ANY);
        text_add_bytes(text, bytes_of(scalar ? scalar : "null"));
    }
}
