"""The one door to the disk: written whole or not at all, checked when read, one owner for a run folder.

Every file that a user may need after a crash is written through here. Errors of the system become `StorageError`
(exit 4), damaged or unsuitable content becomes `InputError` (exit 3).
"""

from compressor.storage.documents import encode_json, read_json, write_json
from compressor.storage.failures import free_bytes, memory_bytes, readable_bytes
from compressor.storage.files import (
    append_line,
    copy_file,
    read_bytes,
    read_lines,
    read_text,
    sha256_file,
    write_bytes,
    write_text,
)
from compressor.storage.folders import ensure_folder, remove_stale, remove_tree, replace_folder, set_aside
from compressor.storage.guards import LOCK_FILE, RunLock, is_in_use, preflight
from compressor.storage.manifests import (
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    is_complete,
    read_manifest,
    verify_folder,
    write_folder,
)
from compressor.storage.names import is_temporary, join_inside, require_file
from compressor.storage.operations import Operations, operations, replaced_operations
from compressor.storage.sealed import MappedTensor, open_sealed, sealed_files, write_sealed
from compressor.storage.tensors import read_tensor_metadata, read_tensors, write_tensors

__all__ = [
    "FORMAT_VERSION",
    "LOCK_FILE",
    "MANIFEST",
    "FileEntry",
    "Manifest",
    "MappedTensor",
    "Operations",
    "RunLock",
    "append_line",
    "copy_file",
    "encode_json",
    "ensure_folder",
    "free_bytes",
    "is_complete",
    "is_in_use",
    "is_temporary",
    "join_inside",
    "memory_bytes",
    "open_sealed",
    "operations",
    "preflight",
    "read_bytes",
    "read_json",
    "read_lines",
    "read_manifest",
    "read_tensor_metadata",
    "read_tensors",
    "read_text",
    "readable_bytes",
    "remove_stale",
    "remove_tree",
    "replace_folder",
    "replaced_operations",
    "require_file",
    "sealed_files",
    "set_aside",
    "sha256_file",
    "verify_folder",
    "write_bytes",
    "write_folder",
    "write_json",
    "write_sealed",
    "write_tensors",
    "write_text",
]
