"""What a rule may import: nothing else of forge is promised to stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from forge.analysis.byte_code import with_byte_code
from forge.analysis.compatibility import check_compatibility
from forge.analysis.context import Context, location
from forge.analysis.placement import place_files
from forge.analysis.reference import image_reference
from forge.core.artifact import Artifact, Derived, Placement, Source
from forge.core.base_image import BaseImage
from forge.core.digest import Hash
from forge.core.errors import AnalysisError, Unavailable
from forge.core.image_material import image_blob, image_document
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.lock import EVERY_ARCH, Lock, LockRequest, Material
from forge.core.model_source import (
    FileSource,
    HubSource,
    ImageSource,
    ModelRequest,
    WebSource,
    choose,
    is_commit,
    is_revision,
)
from forge.core.platform import Backend, Parameter, ParameterValue, Platform, Toolchain
from forge.core.provider import (
    AppInfo,
    BaseInfo,
    EnvironmentInfo,
    ImageInfo,
    IndexInfo,
    ModelInfo,
    Provider,
    TestInfo,
    WheelInfo,
)
from forge.core.secret import is_excepted, is_secret_file, is_secret_name, secret_in
from forge.loading.attribute import (
    Attributes,
    ForExecution,
    ModelSource,
    PlacedFiles,
    SourceFile,
    SourceFiles,
    TargetLabel,
)
from forge.loading.rule_module import rule

__all__ = [
    "EVERY_ARCH",
    "AnalysisError",
    "Annotated",
    "AppInfo",
    "Artifact",
    "Attributes",
    "Backend",
    "BaseImage",
    "BaseInfo",
    "Context",
    "Derived",
    "EnvironmentInfo",
    "Field",
    "FileSource",
    "ForExecution",
    "Hash",
    "HubSource",
    "ImageInfo",
    "ImageName",
    "ImageSource",
    "IndexInfo",
    "Label",
    "Literal",
    "Lock",
    "LockRequest",
    "Material",
    "ModelInfo",
    "ModelRequest",
    "ModelSource",
    "Parameter",
    "ParameterValue",
    "PlacedFiles",
    "Placement",
    "Platform",
    "Provider",
    "Source",
    "SourceFile",
    "SourceFiles",
    "TargetLabel",
    "TestInfo",
    "Toolchain",
    "Unavailable",
    "WebSource",
    "WheelInfo",
    "check_compatibility",
    "choose",
    "image_blob",
    "image_document",
    "image_reference",
    "is_commit",
    "is_excepted",
    "is_revision",
    "is_secret_file",
    "is_secret_name",
    "location",
    "model_validator",
    "place_files",
    "rule",
    "secret_in",
    "with_byte_code",
]
