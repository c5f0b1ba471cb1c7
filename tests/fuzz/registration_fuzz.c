/* The body of REGISTER_BROKER (namesrv/registration_body), first byte: as JSON of new and old brokers, as whatever zlib
 * stream, or packed here, so that what lies behind the unpacking is reached. Names of topics lie in what was unpacked. */
#include <zlib.h>

#include "fuzz.h"
#include "namesrv/registration_body.h"

static void check(struct bytes bytes, bool is_compressed, int32_t version)
{
    struct registration_body body;
    const char *error = NULL;
    int r = registration_body_parse(bytes, is_compressed, version, &body, &error);
    FUZZ_CHECK(r == 0 || error);
    if (r < 0)
        return;
    for (uint32_t i = 0; i < body.topic_count; i++) {
        fuzz_touch(body.topics[i].name);
        FUZZ_CHECK(body.topics[i].read_queues >= 0 && body.topics[i].write_queues >= 0);
    }
    registration_body_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *copy = fuzz_copy(data + 1, size - 1);
    struct bytes bytes = {copy, size - 1};
    if (data[0] == 'z') {
        uLongf packed_size = compressBound(bytes.size);
        uint8_t *packed = malloc(packed_size);
        FUZZ_CHECK(packed && compress(packed, &packed_size, bytes.data, bytes.size) == Z_OK);
        packed = realloc(packed, packed_size);
        check((struct bytes){packed, packed_size}, true, 479);
        free(packed);
    } else {
        check(bytes, data[0] == 'p', data[0] == 'o' ? 1 : 479);
    }
    free(copy);
    return 0;
}
