/** A volume in three dimensions, by niivue (WebGL2). Loaded only when somebody looks. */

import { Niivue, NVImage } from '@niivue/niivue'

const LONGEST = 160 // voxels along an axis: a rendering is for orientation, the planes show every voxel

/** Render `stack` on `canvas`; the returned object moves the crosshair and closes. */
export async function render(canvas, stack, [centre, width]) {
  const view = new Niivue({ backColor: [0, 0, 0, 1], crosshairWidth: 0.5, isRadiologicalConvention: true, loadingText: '', show3Dcrosshair: true, isOrientCube: true })
  await view.attachToCanvas(canvas)
  const low = centre - width / 2
  const image = await NVImage.new(nifti(stack), 'volume.nii', 'gray', 1, null, low + width * 0.2, low + width, true, 0.02, false, false, '', 0, undefined, NaN, NaN, false, null, 0, null)
  view.addVolume(image)
  view.setSliceType(view.sliceTypeRender)
  return {
    at(mm) {
      view.scene.crosshairPos = view.mm2frac(mm)
      view.drawScene()
    },
    close() {
      view.cleanup?.()
      view.gl?.getExtension('WEBGL_lose_context')?.loseContext()
    },
  }
}

/** A NIfTI-1 file in memory, every k-th voxel of the stack. */
function nifti(stack) {
  const step = [stack.nx, stack.ny, stack.nz].map((n) => Math.max(1, Math.ceil(n / LONGEST)))
  const size = [stack.nx, stack.ny, stack.nz].map((n, i) => Math.ceil(n / step[i]))
  const buffer = new ArrayBuffer(352 + 2 * size[0] * size[1] * size[2])
  const header = new DataView(buffer)
  const { affine, meta } = stack
  header.setInt32(0, 348, true)
  ;[3, ...size, 1, 1, 1, 1].forEach((v, i) => header.setInt16(40 + 2 * i, v, true))
  header.setInt16(70, 4, true) // int16
  header.setInt16(72, 16, true)
  ;[1, ...meta.spacing.map((v, i) => v * step[i])].forEach((v, i) => header.setFloat32(76 + 4 * i, v, true))
  header.setFloat32(108, 352, true)
  header.setFloat32(112, meta.slope, true)
  header.setFloat32(116, meta.intercept, true)
  header.setUint8(123, 2) // mm
  header.setInt16(254, 1, true) // sform
  for (let r = 0; r < 3; r++) for (let c = 0; c < 4; c++) header.setFloat32(280 + 16 * r + 4 * c, affine[r][c] * (c < 3 ? step[c] : 1), true)
  header.setUint32(344, 0x00312b6e, true) // "n+1"
  const values = new Int16Array(buffer, 352)
  let i = 0
  for (let z = 0; z < size[2]; z++)
    for (let y = 0; y < size[1]; y++)
      for (let x = 0; x < size[0]; x++, i++) values[i] = stack.data[(z * step[2] * stack.ny + y * step[1]) * stack.nx + x * step[0]]
  return buffer
}
export { Niivue, NVImage } // for the benchmark, which draws the same volume with it
