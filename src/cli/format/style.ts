// Colour, where the stream is a terminal that wants it (NO_COLOR and TERM=dumb say no, FORCE_COLOR says yes).
import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** `text` in a style when `stream` shows colours, else unchanged. */
export function styled(style: Style, text: string, stream: NodeJS.WritableStream = process.stdout): string {
  return process.env['TERM'] === 'dumb' ? text : styleText(style, text, { stream, validateStream: true });
}
