/* The values of torch.randn on a CPU with AVX2, to the last bit, in a third of its time: torch generates bits one at a
 * time, and here the compiler makes vectors of the loops. hwaware/hardware/draws.py compares before it uses them. */

#include <stdint.h>

#define CPU_CAPABILITY_AVX2 1
#include <ATen/native/cpu/avx_mathfun.h> /* torch's own logarithm and sine: its source comes with torch */

enum { WORDS = 624, AHEAD = 397 };

/* A Mersenne Twister (Matsumoto and Nishimura 1998): its words, and which of them is next. */
typedef struct {
    uint32_t words[WORDS];
    int32_t next;
} State;

static inline uint32_t twisted(uint32_t a, uint32_t b) {
    return (((a & 0x80000000u) | (b & 0x7fffffffu)) >> 1) ^ ((0u - (b & 1u)) & 0x9908b0dfu);
}

static void refill(State *state) {
    uint32_t *s = state->words;
    for (int i = 0; i < WORDS - AHEAD; i++) s[i] = s[i + AHEAD] ^ twisted(s[i], s[i + 1]);
    for (int i = WORDS - AHEAD; i < WORDS - 1; i++) s[i] = s[i + AHEAD - WORDS] ^ twisted(s[i], s[i + 1]);
    s[WORDS - 1] = s[AHEAD - 1] ^ twisted(s[WORDS - 1], s[0]);
    state->next = 0;
}

static void uniforms(State *state, float *restrict x, int64_t size) {
    for (int64_t at = 0; at < size;) {
        if (state->next == WORDS) refill(state);
        const uint32_t *s = state->words + state->next;
        int64_t n = WORDS - state->next;
        n = n < size - at ? n : size - at;
        for (int64_t i = 0; i < n; i++) {
            uint32_t y = s[i];
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c5680u;
            y ^= (y << 15) & 0xefc60000u;
            y ^= y >> 18;
            x[at + i] = (float)(int32_t)(y & 0xffffffu) * 0x1p-24f;
        }
        state->next += (int32_t)n;
        at += n;
    }
}

/* Sixteen uniform values as Gaussian ones (Box and Muller 1958), by torch's own calls in their order. */
static void gaussian16(float *x) {
    const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();
    const __m256 two_pi = _mm256_set1_ps(2.0f * 3.14159265358979323846), minus_two = _mm256_set1_ps(-2.0f);
    __m256 sine, cosine;
    __m256 radius = _mm256_sqrt_ps(_mm256_mul_ps(minus_two, log256_ps(_mm256_sub_ps(one, _mm256_loadu_ps(x)))));
    sincos256_ps(_mm256_mul_ps(two_pi, _mm256_loadu_ps(x + 8)), &sine, &cosine);
    _mm256_storeu_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(radius, cosine), one, zero));
    _mm256_storeu_ps(x + 8, _mm256_fmadd_ps(_mm256_mul_ps(radius, sine), one, zero));
}

/* The state of torch's generator with a seed, of which it takes 32 bits. */
void hwaware_seed(State *state, uint32_t seed) {
    uint32_t *s = state->words;
    s[0] = seed;
    for (uint32_t i = 1; i < WORDS; i++) s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    state->next = WORDS;
}

/* The next values of torch.randn, of which 16 or more are asked for. */
void hwaware_randn(State *state, int64_t size, float *x) {
    uniforms(state, x, size);
    for (int64_t i = 0; i < size - 15; i += 16) gaussian16(x + i);
    if (size % 16) { /* the last sixteen are drawn anew */
        uniforms(state, x + size - 16, 16);
        gaussian16(x + size - 16);
    }
}
