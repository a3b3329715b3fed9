// The version of this Brindle, from package.json (bundled into dist/).
import manifest from '../../package.json' with { type: 'json' };

export const VERSION: string = manifest.version;
