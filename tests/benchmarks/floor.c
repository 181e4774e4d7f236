/* The floor of `make bench`: lesson 3's base network (2-3-5-5-2-1, tanh after each layer), 1,000 rows in shuffled
   batches of 100, mean squared error, SGD. -ffast-math may reorder and fuse as it likes. The sizes of layers are read
   while it runs, as in the engine, the number of rows in a batch is known to the compiler.
   Prints the seconds of processor time of as many epochs as its argument says, and the last loss to standard error. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 5, ROWS = 1000, BATCH = 100, WIDE = 5 };
static volatile int size[LAYERS + 1] = {2, 3, 5, 5, 2, 1};
static float w[LAYERS][WIDE][WIDE], b[LAYERS][WIDE], x[ROWS][2], target[ROWS];
static float h[LAYERS + 1][WIDE][BATCH] __attribute__((aligned(64))), g[WIDE][BATCH], back[WIDE][BATCH], y[BATCH];
static const float RATE = 0.5f;
static uint64_t state = 88172645463325252u;

static uint32_t draw(void) { /* xorshift64 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state >> 32;
}
static float uniform(void) { return draw() * 0x1p-31f - 1; }

static inline float fast_tanh(float v) { /* a quotient of polynomials, Eigen's, as in the engine */
    v = v < -7.90531110763549805f ? -7.90531110763549805f : v > 7.90531110763549805f ? 7.90531110763549805f : v;
    float s = v * v, p = -2.76076847742355e-16f, q = 1.19825839466702e-06f;
    p = (((p * s + 2.00018790482477e-13f) * s - 8.60467152213735e-11f) * s + 5.12229709037114e-08f) * s;
    p = ((p + 1.48572235717979e-05f) * s + 6.37261928875436e-04f) * s + 4.89352455891786e-03f;
    q = ((q * s + 1.18534705686654e-04f) * s + 2.26843463243900e-03f) * s + 4.89352518554385e-03f;
    return v * p / q;
}

/* One layer from n to m units. */
static inline __attribute__((always_inline)) void forward(int l, int n, int m) {
    for (int o = 0; o < m; o++) {
        float *out = h[l + 1][o];
        for (int r = 0; r < BATCH; r++) out[r] = b[l][o];
        for (int i = 0; i < n; i++)
            for (int r = 0; r < BATCH; r++) out[r] += w[l][o][i] * h[l][i][r];
        for (int r = 0; r < BATCH; r++) out[r] = fast_tanh(out[r]);
    }
}
static inline __attribute__((always_inline)) void backward(int l, int n, int m) {
    for (int o = 0; o < m; o++)
        for (int r = 0; r < BATCH; r++) g[o][r] *= 1 - h[l + 1][o][r] * h[l + 1][o][r];
    for (int i = 0; i < n && l; i++) {
        for (int r = 0; r < BATCH; r++) back[i][r] = 0;
        for (int o = 0; o < m; o++)
            for (int r = 0; r < BATCH; r++) back[i][r] += w[l][o][i] * g[o][r];
    }
    for (int o = 0; o < m; o++) {
        float sum = 0;
        for (int r = 0; r < BATCH; r++) sum += g[o][r];
        b[l][o] -= RATE * sum;
        for (int i = 0; i < n; i++) {
            sum = 0;
            for (int r = 0; r < BATCH; r++) sum += g[o][r] * h[l][i][r];
            w[l][o][i] -= RATE * sum;
        }
    }
    memcpy(g, back, sizeof g);
}

int main(int count, char **given) {
    int order[ROWS], epochs = count > 1 ? atoi(given[1]) : 1;
    float loss = 0;
    for (int l = 0; l < LAYERS; l++)
        for (int o = 0; o < size[l + 1]; o++)
            for (int i = 0; i < size[l]; i++) w[l][o][i] = uniform();
    for (int r = 0; r < ROWS; r++) {
        order[r] = r, x[r][0] = uniform(), x[r][1] = uniform();
        target[r] = x[r][0] * x[r][1] > 0 ? 1 : -1;
    }
    clock_t began = clock();
    for (int epoch = 0; epoch < epochs; epoch++) {
        for (int r = ROWS - 1; r; r--) {
            int other = (uint64_t)draw() * (r + 1) >> 32, kept = order[r];
            order[r] = order[other], order[other] = kept;
        }
        loss = 0;
        for (int first = 0; first < ROWS; first += BATCH) {
            for (int r = 0; r < BATCH; r++) {
                int row = order[first + r];
                h[0][0][r] = x[row][0], h[0][1][r] = x[row][1], y[r] = target[row];
            }
            for (int l = 0; l < LAYERS; l++) forward(l, size[l], size[l + 1]);
            for (int r = 0; r < BATCH; r++) {
                float wrong = h[LAYERS][0][r] - y[r];
                g[0][r] = 2.0f / BATCH * wrong, loss += wrong * wrong;
            }
            for (int l = LAYERS - 1; l >= 0; l--) backward(l, size[l], size[l + 1]);
        }
    }
    printf("%.9f\n", (double)(clock() - began) / CLOCKS_PER_SEC);
    fprintf(stderr, "%f\n", loss / ROWS);
}
