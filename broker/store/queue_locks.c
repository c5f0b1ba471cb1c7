/* Queue locks: see queue_locks.h. A lock is in the image before its owner hears of it; a lease that has ended needs no
 * record, the clock is the same for a successor. */
#include "queue_locks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/panic.h"
#include "members.h"
#include "msg/msg.h"

enum { KEY_MAX = 4 + MSG_TOPIC_MAX + MSG_GROUP_MAX + 2 };

struct lock {
    char *group, *client_id;
    int64_t lease_end_ms;
    size_t key_size;
    UT_hash_handle hh;
    uint8_t key[]; /* queue id, topic, 0, group */
};

struct queue_locks {
    struct lock *by_key;
};

int queue_locks_new(struct queue_locks **ret_locks)
{
    *ret_locks = calloc(1, sizeof **ret_locks);
    return *ret_locks ? 0 : -ENOMEM;
}

static void drop(struct queue_locks *locks, struct lock *lock)
{
    HASH_DEL(locks->by_key, lock);
    free(lock->group);
    free(lock->client_id);
    free(lock);
}

void queue_locks_free(struct queue_locks *locks)
{
    if (!locks)
        return;
    struct lock *lock, *next;
    HASH_ITER(hh, locks->by_key, lock, next)
    drop(locks, lock);
    free(locks);
}

/* Names have no zero byte (checked by the callers), so the key is unambiguous. 0 if it does not fit. */
static size_t make_key(uint8_t buffer[KEY_MAX], struct bytes group, struct bytes topic, int32_t queue_id)
{
    if (group.size == 0 || group.size > MSG_GROUP_MAX || topic.size == 0 || topic.size > MSG_TOPIC_MAX ||
        memchr(group.data, 0, group.size) || memchr(topic.data, 0, topic.size))
        return 0;
    struct cursor c = cursor_over(buffer, KEY_MAX);
    cursor_put_i32(&c, queue_id);
    memcpy(cursor_take(&c, topic.size), topic.data, topic.size);
    cursor_put_u8(&c, 0);
    memcpy(cursor_take(&c, group.size), group.data, group.size);
    pn_assert(!c.bad);
    return (size_t)(c.pos - buffer);
}

static struct lock *find(const struct queue_locks *locks, const uint8_t *key, size_t key_size)
{
    struct lock *lock = NULL;
    HASH_FIND(hh, locks->by_key, key, key_size, lock);
    return lock;
}

static struct lock *find_or_add(struct queue_locks *locks, const uint8_t *key, size_t key_size, struct bytes group)
{
    struct lock *lock = find(locks, key, key_size);
    if (lock)
        return lock;
    lock = calloc(1, sizeof *lock + key_size);
    pn_assert(lock);
    memcpy(lock->key, key, key_size);
    lock->key_size = key_size;
    lock->group = strndup((const char *)group.data, group.size);
    pn_assert(lock->group);
    HASH_ADD_KEYPTR(hh, locks->by_key, lock->key, key_size, lock);
    return lock;
}

static void set_owner(struct lock *lock, struct bytes client_id)
{
    if (lock->client_id && bytes_equal_text(client_id, lock->client_id))
        return;
    free(lock->client_id);
    lock->client_id = strndup((const char *)client_id.data, client_id.size);
    pn_assert(lock->client_id);
}

static struct bytes topic_of(const struct lock *lock)
{
    return bytes_of((const char *)lock->key + 4);
}

static int32_t queue_of(const struct lock *lock)
{
    int32_t queue_id;
    memcpy(&queue_id, lock->key, sizeof queue_id);
    return queue_id;
}

/* Image. */

static size_t record_size(struct bytes client_id, struct bytes group, struct bytes topic)
{
    return client_id.size + group.size + topic.size + 32;
}

static void write_lock(struct image *image, const struct lock *lock)
{
    struct cursor c = image_begin(image, IMAGE_LOCK);
    cursor_put_i64(&c, lock->lease_end_ms);
    cursor_put_i32(&c, queue_of(lock));
    cursor_put_string(&c, topic_of(lock));
    cursor_put_string(&c, bytes_of(lock->group));
    cursor_put_string(&c, bytes_of(lock->client_id));
    image_end(image, &c);
}

static void write_unlock(struct image *image, const struct lock *lock)
{
    struct cursor c = image_begin(image, IMAGE_UNLOCK);
    cursor_put_i32(&c, queue_of(lock));
    cursor_put_string(&c, topic_of(lock));
    cursor_put_string(&c, bytes_of(lock->group));
    image_end(image, &c);
}

void queue_locks_write_image(struct queue_locks *locks, struct image *image)
{
    struct lock *lock, *next;
    int64_t now_ms = clock_monotonic_ms();
    HASH_ITER(hh, locks->by_key, lock, next)
    if (lock->lease_end_ms > now_ms)
        write_lock(image, lock);
}

int queue_locks_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    int64_t lease_end_ms = type == IMAGE_LOCK ? cursor_get_i64(&c) : 0;
    int32_t queue_id = cursor_get_i32(&c);
    struct bytes topic = cursor_get_string(&c), group = cursor_get_string(&c);
    uint8_t key[KEY_MAX];
    size_t key_size = c.bad ? 0 : make_key(key, group, topic, queue_id);
    if (key_size == 0)
        return -EBADMSG;
    if (type == IMAGE_UNLOCK) {
        struct lock *lock = find(store->queue_locks, key, key_size);
        if (lock)
            drop(store->queue_locks, lock);
        return 0;
    }
    struct bytes client_id = cursor_get_string(&c);
    if (c.bad || type != IMAGE_LOCK || client_id.size == 0)
        return -EBADMSG;
    struct lock *lock = find_or_add(store->queue_locks, key, key_size, group);
    set_owner(lock, client_id);
    lock->lease_end_ms = lease_end_ms;
    return 0;
}

/* Changes. */

bool queue_locks_take(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                      int32_t queue_id, int64_t now_ms)
{
    uint8_t key[KEY_MAX];
    size_t key_size = make_key(key, group, topic, queue_id);
    if (key_size == 0 || client_id.size == 0 || client_id.size > MSG_CLIENT_ID_MAX ||
        memchr(client_id.data, 0, client_id.size))
        return false;
    struct lock *lock = find(store->queue_locks, key, key_size);
    if (lock && lock->lease_end_ms > now_ms && !bytes_equal_text(client_id, lock->client_id))
        return false;
    if (image_make_room(store->image, 1, record_size(client_id, group, topic)) < 0)
        return false;
    lock = find_or_add(store->queue_locks, key, key_size, group);
    set_owner(lock, client_id);
    lock->lease_end_ms = now_ms + QUEUE_LOCK_LEASE_MS;
    write_lock(store->image, lock);
    return true;
}

/* A lock whose release finds no room in the image stays until its lease ends. */
static void release(struct store *store, struct lock *lock)
{
    if (image_make_room(store->image, 1, record_size((struct bytes){NULL, 0}, bytes_of(lock->group), topic_of(lock))) <
        0)
        return;
    write_unlock(store->image, lock);
    drop(store->queue_locks, lock);
}

void queue_locks_release(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                         int32_t queue_id)
{
    uint8_t key[KEY_MAX];
    size_t key_size = make_key(key, group, topic, queue_id);
    struct lock *lock = key_size ? find(store->queue_locks, key, key_size) : NULL;
    if (lock && bytes_equal_text(client_id, lock->client_id))
        release(store, lock);
}

void queue_locks_client_gone(struct store *store, struct bytes group, struct bytes client_id)
{
    struct lock *lock, *next;
    HASH_ITER(hh, store->queue_locks->by_key, lock, next)
    if (bytes_equal_text(group, lock->group) && bytes_equal_text(client_id, lock->client_id))
        release(store, lock);
}

void queue_locks_release_absent(struct store *store)
{
    struct lock *lock, *next;
    HASH_ITER(hh, store->queue_locks->by_key, lock, next)
    if (!members_has_client(store->members, bytes_of(lock->group), bytes_of(lock->client_id)))
        release(store, lock);
}

bool queue_locks_group_locked(const struct queue_locks *locks, struct bytes group, int64_t now_ms)
{
    struct lock *lock, *next;
    HASH_ITER(hh, locks->by_key, lock, next)
    if (lock->lease_end_ms > now_ms && bytes_equal_text(group, lock->group))
        return true;
    return false;
}

void queue_locks_sweep(struct queue_locks *locks, int64_t now_ms)
{
    struct lock *lock, *next;
    HASH_ITER(hh, locks->by_key, lock, next)
    if (lock->lease_end_ms <= now_ms)
        drop(locks, lock);
}
