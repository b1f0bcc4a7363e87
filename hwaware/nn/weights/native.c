/* The weights of one training step and their gradient, on a CPU: hwaware/nn/weights/compiled.py says what is computed.
 *
 * Weights lie in memory one after the other. A segment of them has one scale: a channel, or a piece of a whole layer.
 * Work goes on in blocks that stay in the first cache; loops are plain, for the compiler to make vectors of. Sums are
 * kept for each segment, so that they do not depend on how many threads share the segments.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 256 /* weights; a multiple of eight, the values of one call of the generator */

typedef struct {
    float value, std, error, power;
} Row;

typedef struct {
    float slope, gain, power_gain, unused;
} Slopes;

static inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline double quotient(double a, double b) { return b != 0.0 ? a / b : 0.0; }

/* Two standard Gaussians of 32 random bits (Box and Muller 1958): a radius of 18 bits, up to 5.1, an angle within half a
 * turn of 13, and one bit that says which half. Polynomials by Chebyshev interpolation, off by less than 1e-6. */
static inline void two_gaussians(uint32_t bits, float *x, float *y) {
    float u = ((float)(int32_t)(bits >> 14) + 0.5f) * 0x1p-18f; /* within (0, 1) */
    uint32_t shifted = as_bits(u) - 0x3f3504f3u;            /* u = 2^e (1 + f), 1 + f from √½ to √2 */
    float e = (float)((int32_t)shifted >> 23);
    float f = as_float((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    float log1p = -0.09895350784063339f;
    log1p = log1p * f + 0.16126248240470886f;
    log1p = log1p * f - 0.1727820634841919f;
    log1p = log1p * f + 0.1991334855556488f;
    log1p = log1p * f - 0.24968907237052917f;
    log1p = log1p * f + 0.33334606885910034f;
    log1p = log1p * f - 0.5000037550926208f;
    log1p = log1p * f + 0.9999999403953552f;
    float log_u = e * 0.6931471805599453f + f * log1p;
    float radius = sqrtf(-2.0f * log_u);
    float angle = ((float)(int32_t)((bits >> 1) & 0x1fffu) - 4095.5f) * (3.1415926535897931f * 0x1p-13f);
    float square = angle * angle;
    float sine = 2.6051077384181553e-06f;
    sine = sine * square - 0.0001980901724891737f;
    sine = sine * square + 0.008333049714565277f;
    sine = sine * square - 0.16666658222675323f;
    sine = (sine * square + 1.0f) * angle;
    float cosine = 2.3152417270466685e-05f;
    cosine = cosine * square - 0.0013853629352524877f;
    cosine = cosine * square + 0.04166357219219208f;
    cosine = cosine * square - 0.4999990463256836f;
    cosine = cosine * square + 0.9999999403953552f;
    radius = as_float(as_bits(radius) ^ (bits << 31));
    *x = radius * cosine;
    *y = radius * sine;
}

/* The standard Gaussians of a block of weights: Philox 4x32 with ten rounds (Salmon et al. 2011) of counter and key. */
static void gaussians(uint64_t key, int64_t block, float *restrict z) {
    enum { CALLS = BLOCK / 8 };
    uint32_t bits[BLOCK / 2];
    uint64_t counter = (uint64_t)block * CALLS;
    uint32_t low = (uint32_t)counter, high = (uint32_t)(counter >> 32);
    for (int i = 0; i < CALLS; i++) { /* low does not overflow within a block: 2^32 is a multiple of CALLS */
        uint32_t a = low + (uint32_t)i, b = high, c = 0, d = 0, first = (uint32_t)key, second = (uint32_t)(key >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            uint64_t of_a = (uint64_t)0xD2511F53u * a, of_c = (uint64_t)0xCD9E8D57u * c;
            a = (uint32_t)(of_c >> 32) ^ b ^ first;
            b = (uint32_t)of_c;
            c = (uint32_t)(of_a >> 32) ^ d ^ second;
            d = (uint32_t)of_a;
            first += 0x9E3779B9u;
            second += 0xBB67AE85u;
        }
        bits[i] = a;
        bits[CALLS + i] = b;
        bits[2 * CALLS + i] = c;
        bits[3 * CALLS + i] = d;
    }
    for (int i = 0; i < BLOCK / 2; i++) two_gaussians(bits[i], z + i, z + BLOCK / 2 + i);
}

/* The table positions nearest to w / s, or to its code where there are code steps; a scale without inverse counts as
 * u = 0. */
static inline void nearest(const float *restrict w, int n, float s, int32_t size, int32_t steps, int32_t *restrict at) {
    const float half = 0.5f * (float)(size - 1), middle = half + 0.5f;
    const int32_t last = size - 1;
    if (!(s > 1e-30f && s < INFINITY)) {
        for (int i = 0; i < n; i++) at[i] = (int32_t)middle;
    } else if (steps) {
        const float low = -(float)steps, high = (float)(steps - 1), step = half / (float)steps;
        for (int i = 0; i < n; i++) {
            float code = rintf(w[i] / s * (float)steps);
            code = code < low ? low : code > high ? high : code;
            at[i] = (int32_t)(code * step + middle);
        }
    } else {
        const float factor = half / s;
        for (int i = 0; i < n; i++) {
            int32_t position = (int32_t)(w[i] * factor + middle);
            position = position < 0 ? 0 : position;
            at[i] = position > last ? last : position;
        }
    }
}

/* Has glibc keep blocks of up to 32 MB from step to step rather than return them: page faults on each layer's weights
 * would cost more than the noise. It keeps blocks as large as one that was freed. */
void hwaware_keep_memory(void) {
    void *volatile block = malloc((size_t)32 * 1024 * 1024 - 65536); /* not touched: it takes no memory */
    free(block);
}

/* Standard Gaussians 0 to size - 1 of a key. */
void hwaware_gaussians(uint64_t key, int64_t size, float *z) {
    float block[BLOCK];
    for (int64_t at = 0; at < size; at += BLOCK) {
        gaussians(key, at / BLOCK, block);
        memcpy(z + at, block, (size_t)least(BLOCK, size - at) * sizeof *z);
    }
}

/* The largest |w| of each segment from begin to end; not a number where a weight is none. */
void hwaware_scales(const float *w, int64_t size, int64_t length, int64_t begin, int64_t end, float *scales) {
    for (int64_t segment = begin; segment < end; segment++) {
        const float *of = w + segment * length;
        int64_t n = least(length, size - segment * length);
        uint32_t largest = 0; /* as bits: of numbers above 0 they are in the same order, and above infinity are NaNs */
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = as_bits(of[i]) & 0x7fffffffu;
            largest = bits > largest ? bits : largest;
        }
        scales[segment] = as_float(largest);
    }
}

/* Has all segments the largest of their scales, for a layer that has one; not a number where one is none. */
void hwaware_one_scale(int64_t segments, float *scales) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < segments; i++) {
        uint32_t bits = as_bits(scales[i]);
        largest = bits > largest ? bits : largest;
    }
    for (int64_t i = 0; i < segments; i++) scales[i] = as_float(largest);
}

static inline void forward_block(const float *restrict w, float *restrict weight, int n, float s,
                                 const float *restrict z, int32_t size, int32_t steps, const Row *restrict table,
                                 double *sums) {
    int32_t at[BLOCK];
    Row rows[BLOCK];
    float error = 0.0f, power = 0.0f;
    nearest(w, n, s, size, steps, at);
    for (int i = 0; i < n; i++) rows[i] = table[at[i]]; /* on its own: whole rows, which vectors are then made of */
    for (int i = 0; i < n; i++) {
        weight[i] = s * (rows[i].value + rows[i].std * z[i]);
        error += rows[i].error;
        power += rows[i].power;
    }
    sums[0] += error;
    sums[1] += power;
}

/* Weights of the segments from begin to end, and for each Σ R and Σ f².
 *
 * table: at each position f(u) + mean, std, R(u) and f(u)²; sums: [segments, 2]. */
void hwaware_forward(const float *w, float *weight, int64_t size, int64_t length, int64_t begin, int64_t end,
                     const float *scales, uint64_t key, int32_t positions, int32_t steps, const Row *table,
                     double *sums) {
    float z[BLOCK];
    int64_t drawn = -1;
    for (int64_t segment = begin; segment < end; segment++) {
        int64_t stop = least((segment + 1) * length, size);
        double *of = sums + 2 * segment;
        of[0] = of[1] = 0.0;
        for (int64_t at = segment * length; at < stop;) {
            int64_t block = at / BLOCK, offset = at % BLOCK, n = least(BLOCK - offset, stop - at);
            if (block != drawn) gaussians(key, drawn = block, z);
            if (n == BLOCK) /* so that the compiler knows the number */
                forward_block(w + at, weight + at, BLOCK, scales[segment], z, positions, steps, table, of);
            else
                forward_block(w + at, weight + at, (int)n, scales[segment], z + offset, positions, steps, table, of);
            at += n;
        }
    }
}

/* From those sums Σ s²R and Σ w_eff² of each segment, in place, and `of_all`: both of all segments, and their ratio. */
void hwaware_ratio(int64_t segments, const float *scales, double *sums, double *of_all) {
    of_all[0] = of_all[1] = 0.0;
    for (int64_t i = 0; i < 2 * segments; i++) {
        sums[i] *= (double)scales[i / 2] * scales[i / 2];
        of_all[i % 2] += sums[i];
    }
    of_all[2] = quotient(of_all[0], of_all[1]);
}

static inline void backward_block(const float *restrict w, const float *restrict weight, const float *restrict g,
                                  float *restrict grad, int n, float s, float share, float ratio, int32_t size,
                                  int32_t steps, const Slopes *restrict table, double *sums) {
    int32_t at[BLOCK];
    Slopes of[BLOCK];
    float given = 0.0f, back = 0.0f;
    int32_t peaks = 0;
    nearest(w, n, s, size, steps, at);
    for (int i = 0; i < n; i++) of[i] = table[at[i]];
    for (int i = 0; i < n; i++) {
        float one = share * (of[i].gain - ratio * of[i].power_gain);
        if (g) {
            one += of[i].slope * g[i];
            given += g[i] * weight[i];
        }
        grad[i] = one;
        back += one * w[i];
        peaks += fabsf(w[i]) == s;
    }
    sums[0] += given;
    sums[1] += back;
    sums[2] += peaks;
}

/* Gradients through u of the segments from begin to end, and for each Σ g ŵ, Σ grad w and how many weights set its scale.
 *
 * g: of the weights, or none; share: the ratio's gradient over Σ w_eff²; table: at each position f'(u), R'(u), (f²)'(u);
 * sums: [segments, 3]. */
void hwaware_backward(const float *w, const float *weight, const float *g, float *grad, int64_t size, int64_t length,
                      int64_t begin, int64_t end, const float *scales, double share, double ratio, int32_t positions,
                      int32_t steps, const Slopes *table, double *sums) {
    for (int64_t segment = begin; segment < end; segment++) {
        int64_t stop = least((segment + 1) * length, size);
        float s = scales[segment], of_s = (float)(share * s), r = (float)ratio;
        double *of = sums + 3 * segment;
        of[0] = of[1] = of[2] = 0.0;
        for (int64_t at = segment * length, n; at < stop; at += n) {
            const float *x = w + at, *y = weight + at, *given = g ? g + at : g;
            n = least(BLOCK, stop - at);
            if (n == BLOCK && g)
                backward_block(x, y, given, grad + at, BLOCK, s, of_s, r, positions, steps, table, of);
            else
                backward_block(x, y, given, grad + at, (int)n, s, of_s, r, positions, steps, table, of);
        }
    }
}

/* What each weight that sets its segment's scale gets of the gradient through it.
 *
 * Times s: the weights are s (...) of w / s, so that it takes Σ g ŵ and gives back Σ grad w; and s² is in both sums of the
 * ratio, which tells where a channel has its own. sums: of the backward pass; of_ratio: of hwaware_ratio. */
void hwaware_shares(int64_t segments, int32_t per_channel, const float *scales, const double *sums,
                    const double *of_ratio, double share, double ratio, float *shares) {
    double through = 0.0, peaks = 0.0;
    for (int64_t i = 0; i < segments; i++) {
        if (per_channel) through = peaks = 0.0;
        through += sums[3 * i] - sums[3 * i + 1];
        if (per_channel) through += 2 * share * (of_ratio[2 * i] - ratio * of_ratio[2 * i + 1]);
        peaks += sums[3 * i + 2];
        shares[i] = (float)quotient(through, peaks * scales[i]);
    }
    if (!per_channel)
        for (int64_t i = 0; i < segments - 1; i++) shares[i] = shares[segments - 1];
}

/* Adds to the gradients of the weights that set their segment's scale, from begin to end, its share towards it. */
void hwaware_add_at_peaks(const float *w, float *grad, int64_t size, int64_t length, int64_t begin, int64_t end,
                          const float *scales, const float *shares) {
    for (int64_t segment = begin; segment < end; segment++) {
        int64_t stop = least((segment + 1) * length, size);
        float s = scales[segment], share = shares[segment];
        for (int64_t at = segment * length; at < stop; at += BLOCK) {
            int64_t n = least(BLOCK, stop - at);
            const float *of = w + at;
            int32_t found = 0;
            for (int64_t i = 0; i < n; i++) found |= fabsf(of[i]) == s;
            if (found)
                for (int64_t i = 0; i < n; i++) {
                    if (of[i] == s) grad[at + i] += share;
                    if (of[i] == -s && s != 0.0f) grad[at + i] -= share;
                }
        }
    }
}
