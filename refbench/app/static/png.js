// A mask as a PNG of one bit a pixel, white where painted: no canvas, so no colour management, alpha or size limit.

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(kind, bytes) {
  const out = new Uint8Array(bytes.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, bytes.length);
  for (let k = 0; k < 4; k++) out[4 + k] = kind.charCodeAt(k);
  out.set(bytes, 8);
  let crc = 0xffffffff;
  for (let k = 4; k < out.length - 4; k++) crc = CRC[(crc ^ out[k]) & 255] ^ (crc >>> 8);
  view.setUint32(out.length - 4, ~crc >>> 0);
  return out;
}

// The file, and how many pixels in it are white.
export async function maskPng({ width, height, data }) {
  const row = Math.ceil(width / 8) + 1; // a filter byte first
  const raw = new Uint8Array(row * height);
  let painted = 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (data[at]) {
        raw[y * row + 1 + (x >> 3)] |= 128 >> (x & 7);
        painted++;
      }
    }
  }
  const packed = new Blob([raw]).stream().pipeThrough(new CompressionStream('deflate'));
  const pixels = new Uint8Array(await new Response(packed).arrayBuffer());
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  new DataView(head.buffer).setUint32(4, height);
  head[8] = 1; // bits; colour type 0 is grey
  const start = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [start, chunk('IHDR', head), chunk('IDAT', pixels), chunk('IEND', new Uint8Array())];
  return { blob: new Blob(parts, { type: 'image/png' }), painted };
}
