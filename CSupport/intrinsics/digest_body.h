// The share of a record in terms of an AES round; digest.c includes this once for the processor's instruction and once
// for its replacement, so that there is one text and two programs. No state, any thread.
//
// Each 16 bytes of key and of value are combined with a secret that depends on their place, go through two rounds and
// are added up without carry; two rounds, so that a difference in one block spreads over 16 bytes in a way that no
// other block cancels unless by chance. The header (lengths, version, tombstone) joins in the round that follows; three
// more rounds make the result. A round is one instruction, a multiplication of the same 16 bytes with its loads six.

#define N(name) DIGEST_NAME(name)
#define F CI_INLINE DIGEST_TARGET

/// All of fewer than 16 bytes, the same only for the same bytes of one length.
F DIGEST_BLOCK N(few)(const uint8_t *at, uintptr_t count) {
    uint64_t low = 0, high = 0;
    if (count >= 8) {
        __builtin_memcpy(&low, at, 8);
        __builtin_memcpy(&high, at + count - 8, 8);
    } else if (count >= 4) {
        __builtin_memcpy(&low, at, 4);
        __builtin_memcpy(&high, at + count - 4, 4);
    } else if (count > 0) {
        low = (uint64_t)at[0] << 16 | (uint64_t)at[count / 2] << 8 | at[count - 1];
    }
    return N(pair)(low, high);
}

F DIGEST_BLOCK N(key)(const ci_block *key) { return N(load)(key); }

/// A block's two rounds, added to the sum: a round ends with an addition, which is used for that.
F DIGEST_BLOCK N(absorb)(DIGEST_BLOCK sum, DIGEST_BLOCK block, DIGEST_BLOCK inner) {
    return N(round)(N(round)(block, inner), sum);
}

/// The sum over a key or a value. The last block overlaps the one before it.
F DIGEST_BLOCK N(sum)(const uint8_t *at, uintptr_t count, DIGEST_BLOCK place, DIGEST_BLOCK step, DIGEST_BLOCK inner,
                      DIGEST_BLOCK sum) {
    if (count < 16) return N(absorb)(sum, N(xor)(N(few)(at, count), place), inner);
    const uint8_t *last = at + (count - 16);
    for (; at < last; at += 16, place = N(add)(place, step)) sum = N(absorb)(sum, N(xor)(N(load)(at), place), inner);
    return N(absorb)(sum, N(xor)(N(load)(last), place), inner);
}

F uint64_t N(finish)(DIGEST_BLOCK sum, DIGEST_BLOCK header, DIGEST_BLOCK inner, DIGEST_BLOCK outer) {
    DIGEST_BLOCK x = N(round)(sum, header);
    return N(low)(N(round)(N(round)(N(round)(x, inner), outer), inner));
}

DIGEST_WHOLE uint64_t N(term)(const ci_digest_keys *keys, ci_block header, const void *key, uintptr_t key_count,
                              const void *value, uintptr_t value_count) {
    DIGEST_BLOCK step = N(key)(&keys->step), inner = N(key)(&keys->inner), sum = N(pair)(0, 0);
    sum = N(sum)(key, key_count, N(key)(&keys->key), step, inner, sum);
    sum = N(sum)(value, value_count, N(key)(&keys->value), step, inner, sum);
    return N(finish)(sum, N(pair)(header.low, header.high), inner, N(key)(&keys->outer));
}

/// Copies what `few` reads.
F void N(copy_few)(uint8_t *to, const uint8_t *from, uintptr_t count) {
    if (count >= 8) {
        uint64_t first, last;
        __builtin_memcpy(&first, from, 8);
        __builtin_memcpy(&last, from + count - 8, 8);
        __builtin_memcpy(to, &first, 8);
        __builtin_memcpy(to + count - 8, &last, 8);
    } else if (count >= 4) {
        uint32_t first, last;
        __builtin_memcpy(&first, from, 4);
        __builtin_memcpy(&last, from + count - 4, 4);
        __builtin_memcpy(to, &first, 4);
        __builtin_memcpy(to + count - 4, &last, 4);
    } else if (count > 0) {
        uint8_t middle = from[count / 2], last = from[count - 1];
        to[0] = from[0];
        to[count / 2] = middle;
        to[count - 1] = last;
    }
}

DIGEST_WHOLE uint64_t N(overwrite)(const ci_digest_keys *keys, void *record, const void *value, uint64_t stamp,
                                   uint64_t seq, uint64_t token) {
    uint64_t low, old_stamp;
    __builtin_memcpy(&low, record, 8);
    __builtin_memcpy(&old_stamp, (uint8_t *)record + 8, 8);
    ci_block header = {(low & 0xFFFFFF) | seq << 24, stamp};
    __builtin_memcpy(record, &header, 16);
    DIGEST_BLOCK old_header = N(pair)(low, old_stamp ^ token), new_header = N(pair)(header.low, stamp ^ token);

    uintptr_t key_count = low >> 8 & 0xFF, count = low >> 16 & 0xFF;
    uint8_t *to = (uint8_t *)record + 16 + key_count;
    const uint8_t *from = value;
    DIGEST_BLOCK step = N(key)(&keys->step), inner = N(key)(&keys->inner), place = N(key)(&keys->value);
    DIGEST_BLOCK new = N(sum)(to - key_count, key_count, N(key)(&keys->key), step, inner, N(pair)(0, 0)), old = new;
    if (count >= 16) {
        uintptr_t end = count - 16;
        DIGEST_BLOCK old_last = N(load)(to + end), new_last = N(load)(from + end);
        for (uintptr_t i = 0; i < end; i += 16, place = N(add)(place, step)) {
            DIGEST_BLOCK block = N(load)(from + i);
            old = N(absorb)(old, N(xor)(N(load)(to + i), place), inner);
            new = N(absorb)(new, N(xor)(block, place), inner);
            N(store)(to + i, block);
        }
        old = N(absorb)(old, N(xor)(old_last, place), inner);
        new = N(absorb)(new, N(xor)(new_last, place), inner);
        N(store)(to + end, new_last);
    } else {
        old = N(absorb)(old, N(xor)(N(few)(to, count), place), inner);
        new = N(absorb)(new, N(xor)(N(few)(from, count), place), inner);
        N(copy_few)(to, from, count);
    }
    DIGEST_BLOCK outer = N(key)(&keys->outer);
    return N(finish)(new, new_header, inner, outer) - N(finish)(old, old_header, inner, outer);
}

#undef N
#undef F
